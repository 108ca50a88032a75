//! Random histories of one tail against followers that may join, fall behind, leave and read by themselves.

use proptest::prelude::*;

use super::*;

const BOUNDS: TailBounds = TailBounds { windows: 4, bytes: 1 << 20, time: Duration::from_secs(5), inbox_bytes: 1 << 20 };
const NOW: Duration = Duration::ZERO;
const ROOM: usize = 3;

fn snapshot(moment: u64) -> Snapshot {
    format!("{0}:{0}:", moment + 3).parse().expect("a snapshot")
}

fn position(moment: u64) -> Position {
    Position { snapshot: snapshot(moment), low_seq: 0, high_seq: 0, window: None }
}

fn event(seq: i64, event_type: &str) -> Arc<Notification> {
    Arc::new(Notification { seq, aggregate_id: Some(seq.to_string()), ..Notification::sample(event_type, "{}") })
}

fn of(types: &[&str]) -> EventFilter {
    EventFilter { types: types.iter().map(ToString::to_string).collect(), ..EventFilter::default() }
}

fn seqs(taken: Taken) -> Option<Vec<i64>> {
    match taken {
        Taken::Left => None,
        Taken::Read { events, .. } => Some(events.iter().map(|event| event.seq).collect()),
    }
}

#[test]
fn an_event_goes_to_those_who_want_it_and_moves_the_head_of_all() {
    let mut tail = Tail::new(BOUNDS);
    let (one, other) = (tail.add(of(&["a"]), Share::WHOLE, ROOM), tail.add(of(&["b"]), Share::WHOLE, ROOM));
    assert_eq!(tail.begin(Some(position(0)), true), Vec::<u32>::new());
    assert!(tail.join(one, &snapshot(0), NOW) && tail.join(other, &snapshot(0), NOW));
    let (_, generation) = tail.wanted(9);
    assert_eq!(tail.push(vec![event(1, "a"), event(2, "a")], position(1), generation, NOW), [one]);
    assert!(matches!(tail.take(other), Taken::Read { events, end } if events.is_empty() && end == position(1)));
    assert_eq!(seqs(tail.take(one)), Some(vec![1, 2]));
    assert_eq!(seqs(tail.take(one)), Some(vec![]));
    assert_eq!(tail.begin(Some(position(5)), true), [one, other], "a new beginning leaves everybody");
    assert_eq!((seqs(tail.take(one)), tail.join(one, &snapshot(1), NOW)), (None, false));
}

#[test]
fn a_follower_without_room_is_left_and_the_others_are_not() {
    let mut tail = Tail::new(BOUNDS);
    let (slow, quick) = (tail.add(of(&["a"]), Share::WHOLE, ROOM), tail.add(of(&["a"]), Share::WHOLE, ROOM));
    tail.begin(Some(position(0)), true);
    assert!(tail.join(slow, &snapshot(0), NOW) && tail.join(quick, &snapshot(0), NOW));
    let (_, generation) = tail.wanted(9);
    for moment in 1..=4 {
        assert!(tail.push(vec![event(moment, "a")], position(moment as u64), generation, NOW).contains(&quick));
        assert_eq!(seqs(tail.take(quick)), Some(vec![moment]));
    }
    assert_eq!(seqs(tail.take(slow)), None);
    assert!(tail.join(slow, &snapshot(1), NOW), "it has read the first by itself, and the others are remembered");
    assert_eq!(seqs(tail.take(slow)), Some(vec![2, 3, 4]));
}

#[test]
fn what_was_not_asked_for_is_not_missed_by_whoever_came_meanwhile() {
    let mut tail = Tail::new(BOUNDS);
    let first = tail.add(of(&["a"]), Share::WHOLE, ROOM);
    tail.begin(Some(position(0)), true);
    assert!(tail.join(first, &snapshot(0), NOW));
    let (filter, generation) = tail.wanted(9);
    assert_eq!(filter.types, ["a"]);
    let late = tail.add(of(&["b"]), Share::WHOLE, ROOM);
    assert!(tail.join(late, &snapshot(0), NOW), "nothing has been read since");
    // The read under way asks for "a" only, and "b" is in the log.
    assert_eq!(tail.push(vec![event(2, "a")], position(1), generation, NOW), [first, late]);
    assert_eq!(seqs(tail.take(late)), None);
    assert!(!tail.join(late, &snapshot(0), NOW), "this window has not its events");
    assert!(tail.join(late, &snapshot(1), NOW));
}

#[test]
fn what_a_person_erases_does_not_come_out_of_an_old_window() {
    let mut tail = Tail::new(BOUNDS);
    let one = tail.add(of(&["a"]), Share::WHOLE, ROOM);
    tail.begin(Some(position(0)), true);
    let (_, generation) = tail.wanted(9);
    tail.push(vec![event(1, "a")], position(1), generation, NOW);
    assert!(tail.join(one, &snapshot(0), NOW + BOUNDS.time), "it is remembered for a moment");
    tail.leave(one);
    assert!(!tail.join(one, &snapshot(0), NOW + BOUNDS.time * 2), "and not for longer, also when nothing comes");
    assert_eq!(tail.bytes(), 0);
    assert!(tail.join(one, &snapshot(1), NOW + BOUNDS.time * 2), "the end is where it was");
}

#[test]
fn the_partitions_of_a_handler_follow_only_where_the_server_splits_as_we_do() {
    let mut tail = Tail::new(BOUNDS);
    let parts: Vec<u32> = (0..3).map(|part| tail.add(of(&["a"]), Share::of(3, part, true), 99)).collect();
    tail.begin(Some(position(0)), true);
    let (_, generation) = tail.wanted(9);
    tail.push((1..=10).map(|seq| event(seq, "a")).collect(), position(1), generation, NOW);
    assert!(parts.iter().all(|part| tail.join(*part, &snapshot(0), NOW)), "what is remembered is split, too");
    tail.push((11..=30).map(|seq| event(seq, "a")).collect(), position(2), generation, NOW);
    let taken: Vec<Vec<i64>> = parts.iter().map(|part| seqs(tail.take(*part)).expect("it follows")).collect();
    assert!(taken.iter().all(|part| !part.is_empty() && part.is_sorted()), "{taken:?}");
    let mut all = taken.concat();
    all.sort_unstable();
    assert_eq!(all, (1..=30).collect::<Vec<_>>());
    tail.begin(Some(position(2)), false);
    assert!(!tail.join(parts[0], &snapshot(2), NOW), "each reads what the server says is its own");
}

#[derive(Debug, Clone)]
enum Step {
    /// Events appear, and the tail reads them.
    Read(Vec<u8>),
    /// The same, asked for before the last follower came.
    ReadStale(Vec<u8>),
    Take(usize),
    Leave(usize),
    ReadAlone(usize),
    Join(usize),
    /// At a server that splits events as we do, or at another one.
    BeginAnew(bool),
    /// With all that is of a type, or one of two parts of it.
    Come(u8, Option<u16>),
    Go(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let kinds = || prop::collection::vec(0..3_u8, 0..3);
    prop_oneof![
        4 => kinds().prop_map(Step::Read),
        1 => kinds().prop_map(Step::ReadStale),
        4 => (0..4_usize).prop_map(Step::Take),
        1 => (0..4_usize).prop_map(Step::Leave),
        3 => (0..4_usize).prop_map(Step::ReadAlone),
        4 => (0..4_usize).prop_map(Step::Join),
        1 => any::<bool>().prop_map(Step::BeginAnew),
        2 => (0..3_u8, prop::option::of(0..2_u16)).prop_map(|(kind, part)| Step::Come(kind, part)),
        1 => (0..4_usize).prop_map(Step::Go),
    ]
}

/// Somebody, what it wants, its head as a moment, and what it has got.
struct Somebody {
    number: u32,
    kind: u8,
    share: Share,
    since: u64,
    head: u64,
    got: Vec<i64>,
}

impl Somebody {
    fn wants(&self, (seq, kind): (i64, u8)) -> bool {
        kind == self.kind && self.share.has(&event(seq, name(kind)), &mut Hashes::default())
    }
}

fn name(kind: u8) -> &'static str {
    ["a", "b", "c"][usize::from(kind)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn whoever_joins_leaves_and_reads_alone_gets_everything_once_and_in_order(steps in prop::collection::vec(step(), 1..80)) {
        let mut tail = Tail::new(BOUNDS);
        // The log: the events of each moment.
        let mut log: Vec<Vec<(i64, u8)>> = vec![Vec::new()];
        let mut all: Vec<Somebody> = Vec::new();
        let mut seq = 0;
        let mut stale = tail.wanted(9);
        tail.begin(Some(position(0)), true);
        for step in steps {
            let now = log.len() as u64 - 1;
            match step {
                Step::Read(ref kinds) | Step::ReadStale(ref kinds) => {
                    if matches!(step, Step::Read(_)) {
                        stale = tail.wanted(9);
                    }
                    let events: Vec<(i64, u8)> = kinds.iter().map(|kind| { seq += 1; (seq, *kind) }).collect();
                    log.push(events.clone());
                    let (filter, generation) = stale.clone();
                    let is_read = |kind: u8| filter.types.is_empty() || filter.types.iter().any(|one| one == name(kind));
                    let read = events.iter().filter(|(_, kind)| is_read(*kind)).map(|(seq, kind)| event(*seq, name(*kind))).collect();
                    tail.push(read, position(now + 1), generation, NOW);
                }
                Step::Take(at) => if let Some(one) = all.get_mut(at)
                    && let Taken::Read { events, end } = tail.take(one.number) {
                        one.got.extend(events.iter().map(|event| event.seq));
                        one.head = end.snapshot.xmax() - 3;
                },
                Step::Leave(at) => if let Some(one) = all.get(at) {
                    tail.leave(one.number);
                },
                Step::ReadAlone(at) => if let Some(one) = all.get_mut(at) {
                    // Only whoever does not follow reads alone.
                    if let Taken::Read { events, end } = tail.take(one.number) {
                        one.got.extend(events.iter().map(|event| event.seq));
                        one.head = end.snapshot.xmax() - 3;
                    } else {
                        let windows = &log[one.head as usize + 1..];
                        let wanted: Vec<i64> = windows.iter().flatten().filter(|event| one.wants(**event)).map(|(seq, _)| *seq).collect();
                        one.got.extend(wanted);
                        one.head = now;
                    }
                },
                Step::Join(at) => if let Some(one) = all.get(at)
                    && !tail.follows(one.number) {
                        tail.join(one.number, &snapshot(one.head), NOW);
                },
                Step::BeginAnew(splits) => drop(tail.begin(Some(position(now)), splits)),
                Step::Come(kind, part) if all.len() < 4 => {
                    let share = part.map_or(Share::WHOLE, |part| Share::of(2, part, true));
                    let number = tail.add(of(&[name(kind)]), share, ROOM);
                    all.push(Somebody { number, kind, share, since: now, head: now, got: Vec::new() });
                }
                Step::Come(..) => {}
                Step::Go(at) => if at < all.len() {
                    tail.remove(all.swap_remove(at).number);
                },
            }
            for one in &all {
                let passed = &log[one.since as usize + 1..=one.head as usize];
                let want: Vec<i64> = passed.iter().flatten().filter(|event| one.wants(**event)).map(|(seq, _)| *seq).collect();
                prop_assert_eq!(&one.got, &want, "head {} of {}", one.head, now);
            }
        }
    }
}
