//! The reading routes. They change nothing; the log records every request for a payload.

use serde_json::value::RawValue;
use tracing::info;
use uuid::Uuid;

use super::answer::Answer;
use super::cursor::{Binding, pack, unpack};
use super::documents::{
    AuditPage, EventDocument, EventPage, Explanations, Groups, Handlers, LetterDocument, LetterPage, Relays, ReplayPage,
};
use super::problem::Problem;
use super::serve::Call;
use super::state::ApiState;
use crate::domain::Timestamp;
use crate::operations::{self as o, Caller, Which, filter_options};
use crate::store::events::{Event, EventHistory};
use crate::store::{AuditQuery, LetterPlace, ReplayPlace};

type Answered = Result<Answer, Problem>;

/// Rows of a page unless the caller says otherwise.
const USUAL: u64 = 50;

pub async fn status(state: ApiState, mut call: Call) -> Answered {
    call.check()?;
    let look = async { Ok::<_, Problem>(o::status::look(state.pool(), state.schema(), state.adoptions()).await) };
    Ok(Answer::of(&*state.shared_status().get(&(), look).await?))
}

pub async fn handover(state: ApiState, mut call: Call) -> Answered {
    call.check()?;
    let hours =
        call.input.count("hours").map_or(o::handover::HOURS, |hours| u32::try_from(hours).expect("it is declared with a bound"));
    Ok(Answer::of(&o::handover::read(state.pool(), state.schema(), state.adoptions(), hours).await?))
}

pub async fn relays(state: ApiState, mut call: Call) -> Answered {
    call.check()?;
    Ok(Answer::of(&Relays { relays: o::status::relays(state.pool()).await? }))
}

pub async fn doctor(state: ApiState, mut call: Call) -> Answered {
    call.check()?;
    let read = state.configuration().map(|read| read());
    let (configuration, broken) = match read {
        Some(Ok(configuration)) => (Some(configuration), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, None),
    };
    let (pool, schema) = (state.pool(), state.schema());
    let report = o::doctor::examine(pool, schema, configuration.as_ref(), state.unencrypted(), o::doctor::OLD_TRANSACTION).await;
    Ok(Answer::of(&report.and(broken.map(|why| crate::doctor::Finding::broken_configuration(&why)))))
}

pub async fn audit(state: ApiState, mut call: Call) -> Answered {
    let page = Paging::of(&mut call, "audit");
    let before = page.place::<1>(&mut call).map(|[id]| id);
    call.check()?;
    let input = &call.input;
    let (actor, action) = (input.text("actor"), input.text("action"));
    let query = AuditQuery { actor, action, handler: input.text("handler"), via: input.text("via"), before };
    let found = o::audit::list(state.pool(), &query, page.limit).await?;
    let next = found.last().map(|row| page.binding.cursor(&pack(&[row.id])));
    Ok(Answer::of(&AuditPage { audit: found.items, next }))
}

pub async fn events(state: ApiState, mut call: Call) -> Answered {
    let page = Paging::of(&mut call, "events");
    let before = page.place::<1>(&mut call).map(|[seq]| seq);
    call.check()?;
    let input = &call.input;
    let (event_type, key) = (input.text("type"), input.text("key"));
    let search = o::events::Search { event_type, key, aggregate_id: input.text("aggregate_id") };
    let found = o::events::list(state.pool(), &search, before, page.limit).await?;
    let next = found.goes_on_below.map(|seq| page.binding.cursor(&pack(&[seq])));
    Ok(Answer::of(&EventPage { events: found.events, is_cut_short: found.is_cut_short, next }))
}

pub async fn event(state: ApiState, mut call: Call) -> Answered {
    let id = id_of(&mut call, "event")?;
    let EventHistory { mut event, handlers, attempts } = o::events::show(state.pool(), state.schema(), id).await?;
    let (payload_bytes, hidden) = veil(&state, &call.caller, &mut event);
    Ok(Answer::of(&EventDocument { event, handlers, attempts, payload_bytes, hidden }))
}

pub async fn payload(state: ApiState, mut call: Call) -> Answered {
    let id = id_of(&mut call, "event")?;
    let EventHistory { mut event, .. } = o::events::show(state.pool(), state.schema(), id).await?;
    veil(&state, &call.caller, &mut event);
    Ok(Answer::raw(event.payload.get().to_owned()))
}

pub async fn explain(state: ApiState, mut call: Call) -> Answered {
    let id = id_of(&mut call, "event")?;
    let handler = call.input.text("handler");
    let handlers = o::explain(state.pool(), state.schema(), id, handler.as_deref()).await?;
    Ok(Answer::of(&Explanations { event: id, handlers }))
}

pub async fn letters(state: ApiState, mut call: Call) -> Answered {
    let page = Paging::of(&mut call, "dead-letters");
    let after = page.place::<3>(&mut call).and_then(|[micros, seq, subscription]| {
        let dead_since = Timestamp::from_micros(micros);
        Some(LetterPlace { dead_since, seq, subscription: i32::try_from(subscription).ok()? })
    });
    call.check()?;
    let filter = which(&call).resolve(state.pool()).await?;
    let found = o::dead_letters::list(state.pool(), &filter, after, page.limit).await?;
    let place = found.last().and_then(|letter| letter.place());
    let next = place.map(|at| page.binding.cursor(&pack(&[at.dead_since.as_micros(), at.seq, at.subscription.into()])));
    let options = filter_options(&filter);
    let command = format!("outboxd dead-letters list{}", options.strip_prefix(" --all").unwrap_or(&options));
    Ok(Answer::of(&LetterPage { more: found.more, dead_letters: found.items, next, command }))
}

pub async fn groups(state: ApiState, mut call: Call) -> Answered {
    let limit = limit(&call);
    call.check()?;
    let read = async {
        let filter = which(&call).resolve(state.pool()).await?;
        let found = o::dead_letters::groups(state.pool(), &filter, limit).await?;
        Ok::<_, Problem>(Groups { more: found.more, groups: found.items })
    };
    Ok(Answer::of(&*state.shared_groups().get(&call.query, read).await?))
}

pub async fn letter(state: ApiState, mut call: Call) -> Answered {
    let id = id_of(&mut call, "event")?;
    let handler = call.input.text("handler");
    let letter = o::dead_letters::show(state.pool(), id, handler.as_deref(), state.named_schema()).await?;
    let o::dead_letters::Letter { mut event, deliveries } = letter;
    let (payload_bytes, hidden) = veil(&state, &call.caller, &mut event);
    Ok(Answer::of(&LetterDocument { event, deliveries, payload_bytes, hidden }))
}

pub async fn replays(state: ApiState, mut call: Call) -> Answered {
    let page = Paging::of(&mut call, "replays");
    let after = page.place::<3>(&mut call).map(|[micros, high, low]| {
        let id = Uuid::from_u64_pair(high.cast_unsigned(), low.cast_unsigned());
        ReplayPlace { at: Timestamp::from_micros(micros), id }
    });
    call.check()?;
    let found = o::replays::list(state.pool(), after, page.limit).await?;
    let next = found.last().map(|replay| {
        let (high, low) = replay.id.as_u64_pair();
        page.binding.cursor(&pack(&[replay.at.as_micros(), high.cast_signed(), low.cast_signed()]))
    });
    Ok(Answer::of(&ReplayPage { replays: found.items, next }))
}

pub async fn replay(state: ApiState, mut call: Call) -> Answered {
    let id = id_of(&mut call, "id")?;
    Ok(Answer::of(&o::replays::show(state.pool(), id).await?))
}

pub async fn keys(state: ApiState, mut call: Call) -> Answered {
    let limit = limit(&call);
    call.check()?;
    Ok(Answer::of(&o::keys::list(state.pool(), call.input.text("handler").as_deref(), limit).await?))
}

pub async fn handlers(state: ApiState, mut call: Call) -> Answered {
    call.check()?;
    Ok(Answer::of(&Handlers { handlers: o::handlers::list(state.pool()).await? }))
}

pub async fn handler(state: ApiState, mut call: Call) -> Answered {
    let name = name_of(&mut call)?;
    Ok(Answer::of(&o::handlers::show(state.pool(), &name).await?))
}

pub async fn alerts(state: ApiState, mut call: Call) -> Answered {
    call.check()?;
    Ok(Answer::of(&o::alerts::list(state.pool(), call.input.flag("all")).await?))
}

/// A required id of the path, once the whole request is checked.
pub(super) fn id_of(call: &mut Call, name: &str) -> Result<Uuid, Problem> {
    call.check()?;
    Ok(call.input.uuid(name).expect("a request without a required field is refused"))
}

/// The handler of the path, once the whole request is checked.
pub(super) fn name_of(call: &mut Call) -> Result<String, Problem> {
    call.check()?;
    Ok(call.input.text("handler").expect("a request without a required field is refused"))
}

/// Which deliveries a request is about.
pub(super) fn which(call: &Call) -> Which {
    let input = &call.input;
    Which {
        delivered: input.flag("delivered"),
        handler: input.text("handler"),
        event_type: input.text("type"),
        key: input.text("key"),
        reason: input.text("reason"),
        ids: input.uuids("ids"),
        since: input.moment("since"),
        until: input.moment("until"),
        text: input.text("text"),
        group: input.group("group"),
    }
}

fn limit(call: &Call) -> u32 {
    u32::try_from(call.input.count("limit").unwrap_or(USUAL)).expect("a limit is declared with a bound")
}

/// Takes from an event what its caller may not see, and notes a look at what the caller may see. Gives how large the payload is, and what
/// was taken.
fn veil(state: &ApiState, caller: &Caller, event: &mut Event) -> (usize, &'static [&'static str]) {
    let payload_bytes = event.payload.get().len();
    if !caller.sees_payloads {
        let nothing = || RawValue::from_string("null".to_owned()).expect("null is JSON");
        (event.payload, event.headers) = (nothing(), nothing());
        return (payload_bytes, &["headers", "payload"]);
    }
    event.payload = state.redacted(&event.payload);
    event.headers = state.redacted(&event.headers);
    info!(event_id = %event.id, actor = caller.name, via = caller.via.name(), "a payload was shown");
    (payload_bytes, &[])
}

/// The common parts of the pages of a list.
struct Paging {
    limit: u32,
    binding: Binding,
    cursor: Option<String>,
}

impl Paging {
    fn of(call: &mut Call, route: &str) -> Self {
        let cursor = call.input.text("cursor");
        Self { limit: limit(call), binding: Binding::of(route, &call.query), cursor }
    }

    /// The place that the page begins behind. A cursor that is damaged or of another list is a mistake of the request.
    fn place<const N: usize>(&self, call: &mut Call) -> Option<[i64; N]> {
        let cursor = self.cursor.as_ref()?;
        let place = self.binding.place(cursor).as_deref().and_then(unpack::<N>);
        if place.is_none() {
            let expected = "the `next` of a page of this list with this filter; leave it out to begin anew";
            call.input.mistake("query", "cursor", expected);
        }
        place
    }
}
