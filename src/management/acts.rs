//! The changing routes and their previews. An act on dead letters repeats time and number of its preview, and changes only what the preview showed.

use tracing::info;

use super::answer::Answer;
use super::documents::{Asked, AskedInstance, Discarded, Moved, Noted, PreviewDocument};
use super::numbers::quote_numbers;
use super::problem::Problem;
use super::reads::{id_of, name_of, which};
use super::serve::Call;
use super::state::ApiState;
use crate::domain::Timestamp;
use crate::operations::corrections::{CorrectionOrder, CorrectionPlan, Draft};
use crate::operations::moves::{Direction, MovePlan, Place, parse_start};
use crate::operations::replays::ReplayOrder;
use crate::operations::trial::{MadeUp, TrialError, parse_aggregate};
use crate::operations::{self as o, Preview, Purpose, Which, filter_options, seen};
use crate::store::{Acted, DeliveryFilter, Started};

type Answered = Result<Answer, Problem>;

pub async fn preview_discard(state: ApiState, mut call: Call) -> Answered {
    let which = chosen(&mut call)?;
    let preview = o::preview(state.pool(), &which, Purpose::Discard, None).await?;
    Ok(Answer::of(&previewed(preview, Purpose::Discard)))
}

pub async fn discard(state: ApiState, mut call: Call) -> Answered {
    let which = chosen(&mut call)?;
    let (filter, expected) = seen_before(&state, &call, &which).await?;
    let why = call.input.text("because").expect("a request without a required field is refused");
    match o::dead_letters::discard(state.pool(), &call.caller, &filter, Some(expected), &why).await? {
        Acted::Done(discarded) => Ok(Answer::of(&Discarded { discarded })),
        Acted::Drifted(found) => Err(drifted(&state, &which, Purpose::Discard, expected, found).await),
    }
}

pub async fn preview_edit(state: ApiState, mut call: Call) -> Answered {
    Ok(Answer::of(&plan_edit(&state, &mut call).await?))
}

pub async fn edit(state: ApiState, mut call: Call) -> Answered {
    let id = id_of(&mut call, "id")?;
    let (why, force) = (required_why(&call), call.input.flag("force"));
    let order = CorrectionOrder { id, reason: &why, force };
    // The same request once more finds no dead letter: it is answered with what it has done.
    let event = id_of(&mut call, "event")?;
    let handler = name_of(&mut call)?;
    let payload = call.input.text("payload").expect("a request without a required field is refused");
    if let Some(known) = o::corrections::find(state.pool(), event, &handler, (id, &payload)).await? {
        return Ok(Answer::of(&known));
    }
    let plan = plan_edit(&state, &mut call).await?;
    let recorded = o::corrections::carry_out(state.pool(), &call.caller, &plan, &order).await?;
    Ok(Answer::created(&recorded, format!("/api/v1/events/{id}")))
}

async fn plan_edit(state: &ApiState, call: &mut Call) -> Result<CorrectionPlan, Problem> {
    let event = id_of(call, "event")?;
    let handler = name_of(call)?;
    let payload = call.input.text("payload").expect("a request without a required field is refused");
    let configuration = match state.configuration().map(|read| read()) {
        Some(Ok(configuration)) => Some(configuration),
        Some(Err(why)) => return Err(Problem::new("refused", why).command("outboxd check")),
        None => None,
    };
    let draft = Draft { event, handler: &handler, payload: &payload, redact: state.redaction() };
    let plan = o::corrections::plan(state.pool(), configuration.as_ref(), &draft).await?;
    info!(event_id = %event, actor = call.caller.name, via = call.caller.via.name(), "a payload was shown");
    Ok(plan)
}

pub async fn preview_replay(state: ApiState, mut call: Call) -> Answered {
    let which = chosen(&mut call)?;
    let preview = o::preview(state.pool(), &which, Purpose::Replay, None).await?;
    Ok(Answer::of(&previewed(preview, Purpose::Replay)))
}

pub async fn start_replay(state: ApiState, mut call: Call) -> Answered {
    let which = chosen(&mut call)?;
    let id = id_of(&mut call, "id")?;
    let (filter, expected) = seen_before(&state, &call, &which).await?;
    let (rate, note, force) = (call.input.rate("rate"), call.input.text("because"), call.input.flag("force"));
    let order = ReplayOrder { id, rate, note, force, expected: Some(expected) };
    match o::replays::start(state.pool(), &call.caller, &filter, &order).await? {
        Started::Frozen(_) => {
            let replay = o::replays::show(state.pool(), id).await?;
            Ok(Answer::created(&replay, format!("/api/v1/replays/{id}")))
        }
        Started::Known => Ok(Answer::of(&o::replays::show(state.pool(), id).await?)),
        Started::Drifted(found) => Err(drifted(&state, &which, Purpose::Replay, expected, found).await),
        Started::Taken => unreachable!("the operation refuses an id that is taken"),
    }
}

pub async fn cancel_replay(state: ApiState, mut call: Call) -> Answered {
    let id = id_of(&mut call, "id")?;
    o::replays::cancel(state.pool(), &call.caller, id, call.input.text("because").as_deref()).await?;
    Ok(Answer::of(&o::replays::show(state.pool(), id).await?))
}

pub async fn resume_replay(state: ApiState, mut call: Call) -> Answered {
    let id = id_of(&mut call, "id")?;
    o::replays::resume(state.pool(), &call.caller, id).await?;
    Ok(Answer::of(&o::replays::show(state.pool(), id).await?))
}

pub async fn note(state: ApiState, mut call: Call) -> Answered {
    call.check()?;
    let (group, text) = (call.input.group("group"), call.input.text("text"));
    let (group, text) = group.zip(text).expect("a request without a required field is refused");
    let handler = call.input.text("handler");
    let handlers = o::dead_letters::note(state.pool(), &call.caller, handler.as_deref(), group, &text).await?;
    Ok(Answer::of(&Noted { group, handlers }))
}

pub async fn bury(state: ApiState, mut call: Call) -> Answered {
    let id = id_of(&mut call, "event")?;
    let (handler, why) = (name_of(&mut call)?, required_why(&call));
    Ok(Answer::of(&o::events::bury(state.pool(), &call.caller, state.schema(), id, &handler, &why).await?))
}

pub async fn skip_key(state: ApiState, mut call: Call) -> Answered {
    let head = id_of(&mut call, "head")?;
    let (handler, why) = (name_of(&mut call)?, required_why(&call));
    let key = call.input.text("key").expect("a request without a required field is refused");
    Ok(Answer::of(&o::keys::skip(state.pool(), &call.caller, (&handler, &key), Some(head), &why).await?))
}

pub async fn pause(state: ApiState, mut call: Call) -> Answered {
    let (handler, why) = (name_of(&mut call)?, required_why(&call));
    Ok(Answer::of(&o::handlers::pause(state.pool(), &call.caller, &handler, &why).await?))
}

pub async fn resume(state: ApiState, mut call: Call) -> Answered {
    let handler = name_of(&mut call)?;
    Ok(Answer::of(&o::handlers::resume(state.pool(), &call.caller, &handler).await?))
}

pub async fn close_circuit(state: ApiState, mut call: Call) -> Answered {
    let handler = name_of(&mut call)?;
    let why = call.input.text("because");
    Ok(Answer::of(&o::handlers::close_circuit(state.pool(), &call.caller, &handler, why.as_deref()).await?))
}

pub async fn test_handler(state: ApiState, mut call: Call) -> Answered {
    let name = name_of(&mut call)?;
    let command = format!("outboxd handlers test {}", o::shell_word(&name));
    let Some(read) = state.configuration() else {
        return Err(Problem::new("refused", "no configuration is known here, so no handler can be tried").command(command));
    };
    let configuration = read().map_err(|why| Problem::new("refused", why).command("outboxd check"))?;
    let found = configuration.handlers.into_iter().find(|(config, _)| config.name == name);
    let Some((config, built)) = found else {
        let text = format!("the configuration has no handler \"{name}\"");
        return Err(Problem::new("not-found", text).command("outboxd check"));
    };
    let aggregate = call.input.text("aggregate").and_then(|text| parse_aggregate(&text).ok());
    let made_up = MadeUp { event_type: call.input.text("type"), payload: call.input.text("payload"), aggregate };
    let now = Timestamp::from_micros(jiff::Timestamp::now().as_microsecond());
    let notification = o::trial::made_up(&made_up, &config, now);
    let tried = o::trial::try_once(&config, built, &notification, Some((state.pool(), state.schema()))).await;
    match tried {
        Ok(trial) => Ok(Answer::of(&o::trial::view(&config, &notification, &trial))),
        Err(TrialError::Store(error)) => Err(error.into()),
        Err(error @ TrialError::Projection) => Err(Problem::new("refused", error.to_string()).command("outboxd projections list")),
        Err(error @ TrialError::Feed) => Err(Problem::new("refused", error.to_string()).command("outboxd feed status")),
    }
}

pub async fn preview_rewind(state: ApiState, mut call: Call) -> Answered {
    Ok(Answer::of(&plan(&state, &mut call, Direction::Rewind).await?))
}

pub async fn rewind(state: ApiState, mut call: Call) -> Answered {
    let plan = plan(&state, &mut call, Direction::Rewind).await?;
    carry_out(&state, &call, &plan).await
}

pub async fn preview_start_from(state: ApiState, mut call: Call) -> Answered {
    Ok(Answer::of(&plan(&state, &mut call, Direction::StartFrom).await?))
}

pub async fn start_from(state: ApiState, mut call: Call) -> Answered {
    let plan = plan(&state, &mut call, Direction::StartFrom).await?;
    carry_out(&state, &call, &plan).await
}

pub async fn preview_forget(state: ApiState, mut call: Call) -> Answered {
    let name = name_of(&mut call)?;
    Ok(Answer::of(&o::forget::plan(state.pool(), &name).await?))
}

pub async fn forget(state: ApiState, mut call: Call) -> Answered {
    let name = name_of(&mut call)?;
    let plan = o::forget::plan(state.pool(), &name).await?;
    if !plan.owners.is_empty() {
        return Err(o::handlers::still_owned(&name, &plan.owners).into());
    }
    Ok(Answer::of(&o::forget::forget(state.pool(), &call.caller, &name, call.input.text("because").as_deref()).await?))
}

pub async fn acknowledge(state: ApiState, mut call: Call) -> Answered {
    let (alert, why) = alert_of(&mut call)?;
    Ok(Answer::of(&o::alerts::acknowledge(state.pool(), &call.caller, &alert, why.as_deref()).await?))
}

pub async fn snooze(state: ApiState, mut call: Call) -> Answered {
    let (alert, why) = alert_of(&mut call)?;
    let time = call.input.duration("for").expect("a request without a required field is refused");
    Ok(Answer::of(&o::alerts::snooze(state.pool(), &call.caller, &alert, time, why.as_deref()).await?))
}

pub async fn reload(state: ApiState, mut call: Call) -> Answered {
    call.check()?;
    let asked = o::reload::ask(state.pool(), &call.caller, call.input.text("instance").as_deref()).await?;
    let relays = asked.into_iter().map(|relay| AskedInstance { id: relay.id, host: relay.host, pid: relay.pid }).collect();
    Ok(Answer::accepted(&Asked { relays }))
}

fn alert_of(call: &mut Call) -> Result<(String, Option<String>), Problem> {
    call.check()?;
    let alert = call.input.text("alert").expect("a request without a required field is refused");
    Ok((alert, call.input.text("because")))
}

fn required_why(call: &Call) -> String {
    call.input.text("because").expect("a request without a required field is refused")
}

/// Which deliveries are meant. Either a filter names some, or `all` says that all are.
fn chosen(call: &mut Call) -> Result<Which, Problem> {
    let which = which(call);
    let names_none = Which { delivered: false, ..which.clone() } == Which::default();
    match (names_none, call.input.flag("all")) {
        (true, false) => call.input.mistake("body", "all", "a filter such as handler or group, or all: true for every dead letter"),
        (false, true) => call.input.mistake("body", "all", "either a filter or all: true, not both"),
        _ => {}
    }
    if which.delivered && (which.reason.is_some() || which.text.is_some() || which.group.is_some()) {
        call.input.mistake("body", "delivered", "no reason, text or group beside it: what was delivered has none");
    }
    call.check()?;
    Ok(which)
}

/// The filter of the preview that the request repeats, and the number that it told. Relative times count from the moment of the preview.
async fn seen_before(state: &ApiState, call: &Call, which: &Which) -> Result<(DeliveryFilter, u64), Problem> {
    let as_of = call.input.at("as_of").expect("a request without a required field is refused");
    let expected = call.input.count("expected").expect("a request without a required field is refused");
    Ok((seen(which.resolve_at(state.pool(), as_of).await?, as_of), expected))
}

fn previewed(preview: Preview, purpose: Purpose) -> PreviewDocument {
    let options = filter_options(&preview.filter);
    let command = match purpose {
        Purpose::Discard => format!("outboxd dead-letters discard{options} --because ..."),
        Purpose::Replay => format!("outboxd replay{options}"),
    };
    PreviewDocument { preview, command }
}

/// Nothing was changed, because the number that was seen is no longer true. Carries a new preview.
async fn drifted(state: &ApiState, which: &Which, purpose: Purpose, expected: u64, found: u64) -> Problem {
    let detail =
        format!("the preview told {expected}, and {found} match now; nothing was changed: look at the new preview and repeat it");
    let problem = Problem::new("drifted", detail);
    match o::preview(state.pool(), which, purpose, None).await {
        Ok(preview) => {
            let document = previewed(preview, purpose);
            let command = document.command.clone();
            let text = quote_numbers(&serde_json::to_string(&document).expect("texts and numbers have a JSON form"));
            problem.with("preview", serde_json::from_str(&text).expect("it was JSON before")).command(command)
        }
        Err(_) => problem,
    }
}

async fn plan(state: &ApiState, call: &mut Call, direction: Direction) -> Result<MovePlan, Problem> {
    let name = name_of(call)?;
    let field = if direction == Direction::Rewind { "to" } else { "from" };
    let text = call.input.text(field).expect("a request without a required field is refused");
    let place: Place = parse_start(&text).expect("the field was checked");
    Ok(o::moves::plan(state.pool(), &name, &place, direction, call.input.flag("force")).await?)
}

async fn carry_out(state: &ApiState, call: &Call, plan: &MovePlan) -> Answered {
    plan.check_force()?;
    if plan.is_empty() {
        return Err(Problem::new("conflict", format!("{} is there already; nothing would change", plan.handler)));
    }
    let counts = o::moves::carry_out(state.pool(), &call.caller, plan, call.input.text("because").as_deref()).await?;
    Ok(Answer::of(&Moved { handler: plan.handler.clone(), counts }))
}
