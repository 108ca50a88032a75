//! A JSON document that is opened only where a cast works. Everything else stays the text that was recorded: numbers with all
//! their digits, the order of members, white space. Never interprets a value that no operation names.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A value of a document.
#[derive(Debug, Clone)]
pub enum Node<'j> {
    /// JSON text, as it was recorded or as an operation made it.
    Text(Cow<'j, str>),
    Object(Vec<Member<'j>>),
    List(Vec<Node<'j>>),
}

/// A member of an opened object.
#[derive(Debug, Clone)]
pub struct Member<'j> {
    /// JSON text, with its quotes and escapes.
    name: Cow<'j, str>,
    pub value: Node<'j>,
}

/// What a JSON value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JsonType {
    Null,
    Boolean,
    Number,
    Text,
    List,
    Object,
}

/// Why an operation cannot work on a document. Names members and types, and never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    #[error("is {found}, and the cast expects {expected}")]
    Type { found: JsonType, expected: JsonType },
    #[error("has the member \"{0}\" more than once")]
    Twice(String),
    #[error("has a member \"{0}\" already")]
    Taken(String),
    #[error("{0}")]
    Value(&'static str),
    #[error("is no JSON: {0}")]
    Syntax(String),
}

impl<'j> Node<'j> {
    /// The document as recorded.
    pub fn recorded(json: &'j str) -> Self {
        Self::Text(Cow::Borrowed(json.trim_matches([' ', '\t', '\r', '\n'])))
    }

    /// A value of ours; `json` is valid JSON.
    pub fn made(json: String) -> Self {
        Self::Text(Cow::Owned(json))
    }

    /// Judged by the first character; a text that is no JSON at all counts as a number.
    pub fn json_type(&self) -> JsonType {
        match self {
            Self::Object(_) => JsonType::Object,
            Self::List(_) => JsonType::List,
            Self::Text(text) => match text.as_bytes().first() {
                Some(b'{') => JsonType::Object,
                Some(b'[') => JsonType::List,
                Some(b'"') => JsonType::Text,
                Some(b't' | b'f') => JsonType::Boolean,
                Some(b'n') => JsonType::Null,
                _ => JsonType::Number,
            },
        }
    }

    /// The JSON text of a value that is neither object nor list.
    pub fn scalar(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.starts_with(['{', '[']) => Some(text),
            _ => None,
        }
    }

    /// The members, opened for changes. `None`: the value is null, which stands for "not there".
    pub fn members(&mut self) -> Result<Option<&mut Vec<Member<'j>>>, Problem> {
        match self.json_type() {
            JsonType::Object => {}
            JsonType::Null => return Ok(None),
            found => return Err(Problem::Type { found, expected: JsonType::Object }),
        }
        if let Self::Text(text) = self {
            *self = Self::Object(open_object(text)?);
        }
        match self {
            Self::Object(members) => Ok(Some(members)),
            _ => Ok(None),
        }
    }

    /// The items, opened for changes. `None`: the value is null.
    pub fn items(&mut self) -> Result<Option<&mut Vec<Node<'j>>>, Problem> {
        match self.json_type() {
            JsonType::List => {}
            JsonType::Null => return Ok(None),
            found => return Err(Problem::Type { found, expected: JsonType::List }),
        }
        if let Self::Text(text) = self {
            *self = Self::List(open_list(text)?);
        }
        match self {
            Self::List(items) => Ok(Some(items)),
            _ => Ok(None),
        }
    }

    /// Writes the value as JSON text.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Object(members) => {
                out.push('{');
                for (index, member) in members.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    out.push_str(&member.name);
                    out.push(':');
                    member.value.write(out);
                }
                out.push('}');
            }
            Self::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { "," });
                    item.write(out);
                }
                out.push(']');
            }
        }
    }
}

impl<'j> Member<'j> {
    /// A member of ours.
    pub fn new(name: &str, value: Node<'j>) -> Self {
        Self { name: Cow::Owned(quoted(name)), value }
    }

    /// Whether it has this name, however the document escapes it.
    pub fn is_named(&self, name: &str) -> bool {
        let bare = &self.name[1..self.name.len() - 1];
        match bare.contains('\\') {
            false => bare == name,
            true => serde_json::from_str::<String>(&self.name).is_ok_and(|decoded| decoded == name),
        }
    }

    /// The name without quotes and escapes; one that is no Unicode is given as it is written.
    pub fn decoded_name(&self) -> String {
        serde_json::from_str(&self.name).unwrap_or_else(|_| self.name.to_string())
    }

    /// Gives it another name.
    pub fn rename(&mut self, name: &str) {
        self.name = Cow::Owned(quoted(name));
    }
}

/// The place of the member with this name. An object that has it twice is refused: receivers disagree about which of them counts.
pub fn find(members: &[Member<'_>], name: &str) -> Result<Option<usize>, Problem> {
    let mut places = members.iter().enumerate().filter(|(_, member)| member.is_named(name)).map(|(place, _)| place);
    match (places.next(), places.next()) {
        (_, Some(_)) => Err(Problem::Twice(name.to_owned())),
        (place, None) => Ok(place),
    }
}

/// Refuses a name that the object has already.
pub fn refuse_taken(members: &[Member<'_>], name: &str) -> Result<(), Problem> {
    if members.iter().any(|member| member.is_named(name)) { Err(Problem::Taken(name.to_owned())) } else { Ok(()) }
}

/// A text as JSON.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn open_object<'j>(text: &Cow<'j, str>) -> Result<Vec<Member<'j>>, Problem> {
    let syntax = |error: serde_json::Error| Problem::Syntax(error.to_string());
    Ok(match text {
        Cow::Borrowed(text) => {
            let Pairs(pairs) = serde_json::from_str(text).map_err(syntax)?;
            let member = |(name, value): (&'j RawValue, &'j RawValue)| Member {
                name: Cow::Borrowed(name.get()),
                value: Node::Text(Cow::Borrowed(value.get())),
            };
            pairs.into_iter().map(member).collect()
        }
        // What an operation has made: nothing to borrow from.
        Cow::Owned(text) => {
            let Pairs(pairs) = serde_json::from_str(text).map_err(syntax)?;
            let member = |(name, value): (&RawValue, &RawValue)| Member {
                name: Cow::Owned(name.get().to_owned()),
                value: Node::made(value.get().to_owned()),
            };
            pairs.into_iter().map(member).collect()
        }
    })
}

fn open_list<'j>(text: &Cow<'j, str>) -> Result<Vec<Node<'j>>, Problem> {
    let syntax = |error: serde_json::Error| Problem::Syntax(error.to_string());
    Ok(match text {
        Cow::Borrowed(text) => {
            let Items(items) = serde_json::from_str(text).map_err(syntax)?;
            items.into_iter().map(|item| Node::Text(Cow::Borrowed(item.get()))).collect()
        }
        Cow::Owned(text) => {
            let Items(items) = serde_json::from_str(text).map_err(syntax)?;
            items.into_iter().map(|item| Node::made(item.get().to_owned())).collect()
        }
    })
}

/// The members of an object in their order, each twice that is there twice.
struct Pairs<'a>(Vec<(&'a RawValue, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::with_capacity(16);
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// The items of a list.
struct Items<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Items<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Items<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Items(items))
            }
        }
        deserializer.deserialize_seq(InOrder)
    }
}

impl fmt::Display for JsonType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::Text => "a text",
            Self::List => "a list",
            Self::Object => "an object",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(node: &Node<'_>) -> String {
        let mut out = String::new();
        node.write(&mut out);
        out
    }

    #[test]
    fn what_is_not_opened_stays_as_recorded() {
        let json = " {\"a\" : {\"n\": 9007199254740993 ,\"m\":1.10}, \"\\u0062\":[ 1 ,2],\"a\":null}\n";
        let mut node = Node::recorded(json);
        let members = node.members().expect("an object").expect("not null");
        assert!(members[1].is_named("b") && !members[1].is_named("\\u0062"));
        assert_eq!(find(members, "a"), Err(Problem::Twice("a".to_owned())));
        assert_eq!(find(members, "b"), Ok(Some(1)));
        assert_eq!(written(&node), "{\"a\":{\"n\": 9007199254740993 ,\"m\":1.10},\"\\u0062\":[ 1 ,2],\"a\":null}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_told_with_both_types() {
        let mut node = Node::recorded("[1]");
        assert_eq!(node.members().err(), Some(Problem::Type { found: JsonType::List, expected: JsonType::Object }));
        assert!(Node::recorded("null").members().expect("null stands for nothing").is_none());
    }

    #[test]
    fn what_an_operation_made_can_be_opened_too() {
        let mut node = Node::made("{\"a\":[{\"b\":1}]}".to_owned());
        let members = node.members().expect("an object").expect("not null");
        members[0].value.items().expect("a list").expect("not null")[0].members().expect("an object");
        assert_eq!(written(&node), "{\"a\":[{\"b\":1}]}");
    }
}
