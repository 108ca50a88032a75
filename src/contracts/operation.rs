//! Operations: the single changes of which a cast consists. Each is checked when it is made and works on an opened document.
//! Never rounds, never overwrites, never repeats a value of the document in the text of a failure. A long file: each operation
//! stands beside its effect.

use std::collections::BTreeMap;
use std::fmt;

use super::decimal::Decimal;
use super::path::{Path, Step};
use super::tree::{JsonType, Member, Node, Problem, find, quoted, refuse_taken};

/// One change of a document. A member that is absent, or null on the way, is left alone unless the operation says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Another name, in the same place of the same object.
    Rename { path: Path, name: String },
    /// To another object. Both paths share everything up to their last `[]`.
    Move { from: Path, to: Path },
    /// Removes a member.
    Drop { path: Path },
    /// Sets a member that is absent: an invented value, JSON text.
    Default { path: Path, value: String },
    /// Sets a member, whatever was there: JSON text. Makes the objects on the way to it.
    Const { path: Path, value: String },
    /// Writes a scalar as another type, exactly or not at all.
    Cast { path: Path, to: ScalarType },
    /// Multiplies a number, or a text that is one, exactly; `name` may be a new one in the same object.
    Scale { path: Path, name: String, by: Decimal, form: Option<ScalarType> },
    /// Replaces a scalar by what the table says: JSON text by the text of the scalar. Without `otherwise` an unlisted value fails.
    Map { path: Path, values: BTreeMap<String, String>, otherwise: Option<String> },
    /// Puts members of one object into a new one, `into`, in the place of the first.
    Nest { paths: Vec<Path>, into: String },
    /// Puts the members of an object in its own place.
    Unnest { path: Path },
}

/// What a scalar is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarType {
    Text,
    Integer,
    Number,
    Boolean,
}

/// Why paths and values make no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOperation {
    #[error("the paths \"{0}\" and \"{1}\" run through different lists; both must share everything up to the last \"[]\"")]
    OtherList(String, String),
    #[error("\"{0}\" and \"{1}\" are the same place")]
    Same(String, String),
    #[error("a rename names the new member without a path; got \"{0}\"; use move for another object")]
    NotAName(String),
    #[error("a nest needs members of one object; \"{0}\" and \"{1}\" are of two")]
    TwoObjects(String, String),
    #[error("a nest needs at least one member")]
    NothingToNest,
    #[error("the factor is zero, which loses every value")]
    ZeroFactor,
}

impl ScalarType {
    pub const ALL: [Self; 4] = [Self::Text, Self::Integer, Self::Number, Self::Boolean];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == text)
    }
}

impl Operation {
    /// `name` is a single name.
    pub fn rename(path: Path, name: &str) -> Result<Self, InvalidOperation> {
        let to = Path::parse(name).ok().filter(|path| path.steps().len() == 1);
        let Some(to) = to else { return Err(InvalidOperation::NotAName(name.to_owned())) };
        let name = to.split_last().1.to_owned();
        if path.split_last().1 == name {
            return Err(InvalidOperation::Same(path.to_string(), name));
        }
        Ok(Self::Rename { path, name })
    }

    pub fn move_to(from: Path, to: Path) -> Result<Self, InvalidOperation> {
        let texts = || (from.to_string(), to.to_string());
        if from == to {
            return Err(InvalidOperation::Same(texts().0, texts().1));
        }
        if from.split_at_last_list().0 != to.split_at_last_list().0 {
            return Err(InvalidOperation::OtherList(texts().0, texts().1));
        }
        Ok(Self::Move { from, to })
    }

    pub fn scale(path: Path, name: Option<&str>, by: Decimal, form: Option<ScalarType>) -> Result<Self, InvalidOperation> {
        if by.is_zero() {
            return Err(InvalidOperation::ZeroFactor);
        }
        let name = match name {
            None => path.split_last().1.to_owned(),
            Some(name) => match Path::parse(name).ok().filter(|path| path.steps().len() == 1) {
                Some(to) => to.split_last().1.to_owned(),
                None => return Err(InvalidOperation::NotAName(name.to_owned())),
            },
        };
        Ok(Self::Scale { path, name, by, form })
    }

    pub fn nest(paths: Vec<Path>, into: &str) -> Result<Self, InvalidOperation> {
        let Some(first) = paths.first() else { return Err(InvalidOperation::NothingToNest) };
        if let Some(other) = paths.iter().find(|path| path.split_last().0 != first.split_last().0) {
            return Err(InvalidOperation::TwoObjects(first.to_string(), other.to_string()));
        }
        match Path::parse(into).ok().filter(|path| path.steps().len() == 1) {
            Some(into) => Ok(Self::Nest { into: into.split_last().1.to_owned(), paths }),
            None => Err(InvalidOperation::NotAName(into.to_owned())),
        }
    }

    /// The word for it in configuration and messages.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Rename { .. } => "rename",
            Self::Move { .. } => "move",
            Self::Drop { .. } => "drop",
            Self::Default { .. } => "default",
            Self::Const { .. } => "const",
            Self::Cast { .. } => "cast",
            Self::Scale { .. } => "scale",
            Self::Map { .. } => "map",
            Self::Nest { .. } => "nest",
            Self::Unnest { .. } => "unnest",
        }
    }

    /// The place that it reads first, for messages.
    pub fn path(&self) -> &Path {
        match self {
            Self::Rename { path, .. }
            | Self::Move { from: path, .. }
            | Self::Drop { path }
            | Self::Default { path, .. }
            | Self::Const { path, .. }
            | Self::Cast { path, .. }
            | Self::Scale { path, .. }
            | Self::Map { path, .. }
            | Self::Unnest { path } => path,
            Self::Nest { paths, .. } => &paths[0],
        }
    }

    /// Changes the document. On a failure the document is half changed and of no use.
    pub fn apply(&self, document: &mut Node<'_>) -> Result<(), Problem> {
        match self {
            Self::Const { path, value } => set(document, path.steps(), value),
            Self::Move { from, to } => {
                let (base, source) = from.split_at_last_list();
                let target = to.split_at_last_list().1;
                at_each(document, base, &mut |node| move_member(node, &source, &target))
            }
            Self::Nest { paths, into } => {
                let names: Vec<&str> = paths.iter().map(|path| path.split_last().1).collect();
                at_each(document, paths[0].split_last().0, &mut |node| nest(node, &names, into))
            }
            _ => {
                let (parent, name) = self.path().split_last();
                at_each(document, parent, &mut |node| self.apply_in(node, name))
            }
        }
    }

    /// The operations that work on one member of one object.
    fn apply_in(&self, object: &mut Node<'_>, name: &str) -> Result<(), Problem> {
        let Some(members) = object.members()? else { return Ok(()) };
        let place = find(members, name)?;
        let Some(place) = place else {
            if let Self::Default { value, .. } = self {
                members.push(Member::new(name, Node::made(value.clone())));
            }
            return Ok(());
        };
        match self {
            Self::Rename { name: new, .. } => {
                refuse_taken(members, new)?;
                members[place].rename(new);
            }
            Self::Drop { .. } => drop(members.remove(place)),
            Self::Cast { to, .. } => cast(&mut members[place].value, *to)?,
            Self::Scale { name: new, by, form, .. } => {
                if new != name {
                    refuse_taken(members, new)?;
                    members[place].rename(new);
                }
                scale(&mut members[place].value, by, *form)?;
            }
            Self::Map { values, otherwise, .. } => map(&mut members[place].value, values, otherwise.as_deref())?,
            Self::Unnest { .. } => unnest(members, place)?,
            // A default leaves alone what is there; the others do not come here.
            Self::Default { .. } | Self::Const { .. } | Self::Move { .. } | Self::Nest { .. } => {}
        }
        Ok(())
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\"", self.word(), self.path())
    }
}

/// Visits every value at these steps; where one is absent or null there is none.
fn at_each<'j>(
    node: &mut Node<'j>,
    steps: &[Step],
    visit: &mut dyn FnMut(&mut Node<'j>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    match steps {
        [] => visit(node),
        [Step::Member(name), rest @ ..] => {
            let Some(members) = node.members()? else { return Ok(()) };
            match find(members, name)? {
                Some(place) => at_each(&mut members[place].value, rest, visit),
                None => Ok(()),
            }
        }
        [Step::Each, rest @ ..] => {
            let Some(items) = node.items()? else { return Ok(()) };
            items.iter_mut().try_for_each(|item| at_each(item, rest, visit))
        }
    }
}

fn set(node: &mut Node<'_>, steps: &[Step], value: &str) -> Result<(), Problem> {
    match steps {
        [] => {
            *node = Node::made(value.to_owned());
            Ok(())
        }
        [Step::Member(name), rest @ ..] => {
            let null = Problem::Type { found: JsonType::Null, expected: JsonType::Object };
            let members = node.members()?.ok_or(null)?;
            let place = match find(members, name)? {
                Some(place) => place,
                // A list that is absent has no items to set anything in.
                None if rest.first() == Some(&Step::Each) => return Ok(()),
                None => {
                    members.push(Member::new(name, Node::Object(Vec::new())));
                    members.len() - 1
                }
            };
            set(&mut members[place].value, rest, value)
        }
        [Step::Each, rest @ ..] => {
            let Some(items) = node.items()? else { return Ok(()) };
            items.iter_mut().try_for_each(|item| set(item, rest, value))
        }
    }
}

fn move_member(object: &mut Node<'_>, source: &[&str], target: &[&str]) -> Result<(), Problem> {
    let Some(value) = take(object, source)? else { return Ok(()) };
    let (name, parents) = target.split_last().expect("a path ends with a name");
    let mut at = object;
    for parent in parents {
        let null = Problem::Type { found: JsonType::Null, expected: JsonType::Object };
        let members = at.members()?.ok_or(null)?;
        let place = find(members, parent)?.unwrap_or_else(|| {
            members.push(Member::new(parent, Node::Object(Vec::new())));
            members.len() - 1
        });
        at = &mut members[place].value;
    }
    let null = Problem::Type { found: JsonType::Null, expected: JsonType::Object };
    let members = at.members()?.ok_or(null)?;
    refuse_taken(members, name)?;
    members.push(Member::new(name, value));
    Ok(())
}

fn take<'j>(object: &mut Node<'j>, path: &[&str]) -> Result<Option<Node<'j>>, Problem> {
    let (name, rest) = path.split_first().expect("a path ends with a name");
    let Some(members) = object.members()? else { return Ok(None) };
    let Some(place) = find(members, name)? else { return Ok(None) };
    match rest {
        [] => Ok(Some(members.remove(place).value)),
        rest => take(&mut members[place].value, rest),
    }
}

fn nest(object: &mut Node<'_>, names: &[&str], into: &str) -> Result<(), Problem> {
    let Some(members) = object.members()? else { return Ok(()) };
    let (mut inner, mut first) = (Vec::new(), None);
    for name in names {
        if let Some(place) = find(members, name)? {
            inner.push(members.remove(place));
            first = Some(first.map_or(place, |first: usize| first.min(place)));
        }
    }
    if let Some(first) = first {
        refuse_taken(members, into)?;
        members.insert(first, Member::new(into, Node::Object(inner)));
    }
    Ok(())
}

fn unnest(members: &mut Vec<Member<'_>>, place: usize) -> Result<(), Problem> {
    let mut object = members.remove(place);
    let Some(inner) = object.value.members()? else { return Ok(()) };
    for member in inner.iter() {
        refuse_taken(members, &member.decoded_name())?;
    }
    members.splice(place..place, inner.drain(..));
    Ok(())
}

/// Writes the scalar as this type. Null stays null.
fn cast(value: &mut Node<'_>, to: ScalarType) -> Result<(), Problem> {
    let found = value.json_type();
    let Some(text) = value.scalar() else { return Err(Problem::Type { found, expected: expected(to) }) };
    let made = match (found, to) {
        (JsonType::Null, _)
        | (JsonType::Text, ScalarType::Text)
        | (JsonType::Number, ScalarType::Number)
        | (JsonType::Boolean, ScalarType::Boolean) => return Ok(()),
        // As recorded: a number keeps its digits inside the quotes.
        (_, ScalarType::Text) => format!("\"{text}\""),
        (JsonType::Number, ScalarType::Integer) if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => return Ok(()),
        (JsonType::Number, ScalarType::Integer) => whole(text)?,
        (JsonType::Text, ScalarType::Integer) => whole(&decoded(text)?)?,
        (JsonType::Text, ScalarType::Number) => {
            let text = decoded(text)?;
            Decimal::parse(&text).ok_or(Problem::Value("is a text that is no number"))?;
            text
        }
        (JsonType::Text, ScalarType::Boolean) => match decoded(text)?.as_str() {
            text @ ("true" | "false") => text.to_owned(),
            _ => return Err(Problem::Value("is a text that is neither \"true\" nor \"false\"")),
        },
        _ => return Err(Problem::Type { found, expected: expected(to) }),
    };
    *value = Node::made(made);
    Ok(())
}

const fn expected(to: ScalarType) -> JsonType {
    match to {
        ScalarType::Text => JsonType::Text,
        ScalarType::Integer | ScalarType::Number => JsonType::Number,
        ScalarType::Boolean => JsonType::Boolean,
    }
}

fn whole(text: &str) -> Result<String, Problem> {
    let number = Decimal::parse(text).ok_or(Problem::Value("is no number, or has more than 400 digits"))?;
    let whole = number.to_integer().ok_or(Problem::Value("is not a whole number, and a cast does not round"))?;
    Ok(whole.to_string())
}

fn decoded(text: &str) -> Result<String, Problem> {
    serde_json::from_str(text).map_err(|_| Problem::Value("is a text that is no Unicode"))
}

/// Multiplies; `None` for the form keeps the type that is there. Null stays null.
fn scale(value: &mut Node<'_>, by: &Decimal, form: Option<ScalarType>) -> Result<(), Problem> {
    let found = value.json_type();
    let text = match (found, value.scalar()) {
        (JsonType::Null, _) => return Ok(()),
        (JsonType::Number, Some(text)) => text.to_owned(),
        (JsonType::Text, Some(text)) => decoded(text)?,
        _ => return Err(Problem::Type { found, expected: JsonType::Number }),
    };
    let number = Decimal::parse(&text).ok_or(Problem::Value("is no number, or has more than 400 digits"))?;
    let product = number.times(by).ok_or(Problem::Value("has more than 400 digits when it is multiplied"))?;
    let form = form.unwrap_or(if found == JsonType::Text { ScalarType::Text } else { ScalarType::Number });
    *value = Node::made(match form {
        ScalarType::Text => quoted(&product.to_string()),
        ScalarType::Integer => product
            .to_integer()
            .ok_or(Problem::Value("is not a whole number when it is multiplied, and a cast does not round"))?
            .to_string(),
        ScalarType::Number | ScalarType::Boolean => product.to_string(),
    });
    Ok(())
}

/// Null stays null.
fn map(value: &mut Node<'_>, values: &BTreeMap<String, String>, otherwise: Option<&str>) -> Result<(), Problem> {
    let found = value.json_type();
    let key = match (found, value.scalar()) {
        (JsonType::Null, _) => return Ok(()),
        (JsonType::Text, Some(text)) => decoded(text)?,
        (JsonType::Number | JsonType::Boolean, Some(text)) => text.to_owned(),
        _ => return Err(Problem::Type { found, expected: JsonType::Text }),
    };
    let new = values.get(&key).map(String::as_str).or(otherwise).ok_or(Problem::Value("is one that the map does not list"))?;
    *value = Node::made(new.to_owned());
    Ok(())
}
