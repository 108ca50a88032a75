//! Shapes: which members a payload can have, as far as its schema says, and which members remain after a cast. Before any event
//! comes, it finds a cast that works on nothing and a member that the other version needs and never gets. Says nothing where a
//! schema leaves the members open.

use std::collections::BTreeMap;

use super::cast::Cast;
use super::compat::layers::Layers;
use super::operation::Operation;
use super::path::Step;
use super::schema::Schema;

/// Objects within one another that are looked at; a schema may contain itself.
const DEEPEST: usize = 12;
/// Names that are like one another.
const ALIKE: f64 = 0.75;

/// What is known of a value.
#[derive(Debug, Clone)]
enum Shape<'s> {
    /// As its schema says; opened when a cast works in it.
    Schema(Layers<'s>),
    Object {
        members: BTreeMap<String, Entry<'s>>,
        /// There may be others.
        is_open: bool,
    },
    List(Box<Shape<'s>>),
    /// Nothing is known, or it is no object.
    Anything,
}

#[derive(Debug, Clone)]
struct Entry<'s> {
    shape: Shape<'s>,
    /// It is always there.
    is_sure: bool,
}

/// A mistake in a cast: the index of its operation, if it is in one, and words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ShapeFault {
    pub operation: Option<usize>,
    pub text: String,
}

/// Runs a cast over what the schema of one version says, and compares the result with the schema of the other.
pub(super) fn check(cast: &Cast, (from, from_version): (&Schema, u32), (to, to_version): (&Schema, u32)) -> Vec<ShapeFault> {
    let mut shape = Shape::Schema(Layers::of(from.value(), from.value()));
    let mut faults = Vec::new();
    for (index, operation) in cast.operations().iter().enumerate() {
        if let Err(missing) = shape.apply(operation) {
            let text = format!("{operation}: {}", missing.text(from_version));
            faults.push(ShapeFault { operation: Some(index), text });
        }
    }
    // What is missing after a step that found nothing is a consequence.
    if faults.is_empty() {
        let target = Layers::of(to.value(), to.value());
        compare(&mut shape, &target, "", (from_version, to_version), 0, &mut faults);
    }
    faults
}

/// A path that leads nowhere.
struct Missing {
    name: String,
    nearest: Option<String>,
}

impl Missing {
    fn text(&self, version: u32) -> String {
        let hint = self.nearest.as_ref().map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
        format!("a payload of version {version} has no \"{}\" here{hint}", self.name)
    }
}

impl<'s> Shape<'s> {
    fn open(&mut self) -> &mut Self {
        if let Self::Schema(layers) = self {
            *self = opened(layers);
        }
        self
    }

    fn apply(&mut self, operation: &Operation) -> Result<(), Missing> {
        match operation {
            Operation::Const { path, .. } => {
                self.set(path.steps());
                Ok(())
            }
            Operation::Default { path, .. } => {
                let (parent, name) = path.split_last();
                let Some(Self::Object { members, .. }) = self.find(parent)?.map(Self::open) else { return Ok(()) };
                members.entry(name.to_owned()).or_insert(Entry { shape: Self::Anything, is_sure: true }).is_sure = true;
                Ok(())
            }
            Operation::Nest { paths, into } => {
                let mut inner = BTreeMap::new();
                for path in paths {
                    let (parent, name) = path.split_last();
                    inner.extend(self.take(parent, name)?.map(|entry| (name.to_owned(), entry)));
                }
                let is_sure = inner.values().any(|entry: &Entry<'_>| entry.is_sure);
                let shape = Self::Object { members: inner, is_open: false };
                self.put(paths[0].split_last().0, into, Entry { shape, is_sure });
                Ok(())
            }
            Operation::Move { from, to } => {
                let (parent, name) = from.split_last();
                let is_way_sure = self.is_sure(parent);
                if let Some(entry) = self.take(parent, name)? {
                    let (parent, name) = to.split_last();
                    let is_sure = entry.is_sure && is_way_sure;
                    self.put(parent, name, Entry { is_sure, ..entry });
                }
                Ok(())
            }
            Operation::Rename { path, name: new } | Operation::Scale { path, name: new, .. } => {
                let (parent, name) = path.split_last();
                if let Some(entry) = self.take(parent, name)? {
                    let shape = if matches!(operation, Operation::Rename { .. }) { entry.shape } else { Self::Anything };
                    self.put(parent, new, Entry { shape, is_sure: entry.is_sure });
                }
                Ok(())
            }
            Operation::Drop { path } => {
                let (parent, name) = path.split_last();
                self.take(parent, name).map(drop)
            }
            Operation::Cast { path, .. } | Operation::Map { path, .. } => {
                let (parent, name) = path.split_last();
                if let Some(entry) = self.take(parent, name)? {
                    self.put(parent, name, Entry { shape: Self::Anything, ..entry });
                }
                Ok(())
            }
            Operation::Unnest { path } => {
                let (parent, name) = path.split_last();
                let Some(mut entry) = self.take(parent, name)? else { return Ok(()) };
                match entry.shape.open() {
                    Self::Object { members, is_open } => {
                        let is_open = *is_open;
                        for (name, inner) in std::mem::take(members) {
                            let is_sure = inner.is_sure && entry.is_sure;
                            self.put(parent, &name, Entry { is_sure, ..inner });
                        }
                        if is_open {
                            self.open_up(parent);
                        }
                    }
                    _ => self.open_up(parent),
                }
                Ok(())
            }
        }
    }

    /// The value at these steps. `Ok(None)`: nothing is known of it.
    fn find(&mut self, steps: &[Step]) -> Result<Option<&mut Self>, Missing> {
        let Some((step, rest)) = steps.split_first() else { return Ok(Some(self)) };
        match (step, self.open()) {
            (Step::Each, Self::List(item)) => item.find(rest),
            (Step::Member(name), Self::Object { members, is_open }) => {
                if members.contains_key(name) {
                    return members.get_mut(name).expect("it was just found").shape.find(rest);
                }
                if *is_open { Ok(None) } else { Err(missing(members, name)) }
            }
            (_, Self::Anything | Self::Schema(_)) => Ok(None),
            (Step::Each, Self::Object { .. }) => Err(Missing { name: "[]".to_owned(), nearest: None }),
            (Step::Member(name), Self::List(_)) => Err(Missing { name: name.clone(), nearest: Some("[]".to_owned()) }),
        }
    }

    fn take(&mut self, parent: &[Step], name: &str) -> Result<Option<Entry<'s>>, Missing> {
        let (members, is_open) = match self.find(parent)?.map(Self::open) {
            Some(Self::Object { members, is_open }) => (members, is_open),
            Some(Self::List(_)) => return Err(Missing { name: name.to_owned(), nearest: Some("[]".to_owned()) }),
            _ => return Ok(None),
        };
        match members.remove(name) {
            Some(entry) => Ok(Some(entry)),
            None if *is_open => Ok(None),
            None => Err(missing(members, name)),
        }
    }

    fn put(&mut self, parent: &[Step], name: &str, entry: Entry<'s>) {
        // A move makes the objects on its way.
        self.set_parents(parent);
        if let Ok(Some(found)) = self.find(parent)
            && let Self::Object { members, .. } = found.open()
        {
            members.insert(name.to_owned(), entry);
        }
    }

    fn set_parents(&mut self, steps: &[Step]) {
        let Some((step, rest)) = steps.split_first() else { return };
        match (step, self.open()) {
            (Step::Each, Self::List(item)) => item.set_parents(rest),
            (Step::Member(name), Self::Object { members, .. }) => {
                let made = || Entry { shape: Self::Object { members: BTreeMap::new(), is_open: false }, is_sure: true };
                members.entry(name.clone()).or_insert_with(made).shape.set_parents(rest);
            }
            _ => {}
        }
    }

    fn set(&mut self, steps: &[Step]) {
        let (Some((Step::Member(name), parent)), Some(_)) = (steps.split_last(), steps.first()) else { return };
        self.put(parent, name, Entry { shape: Self::Anything, is_sure: true });
    }

    fn open_up(&mut self, parent: &[Step]) {
        if let Ok(Some(found)) = self.find(parent)
            && let Self::Object { is_open, .. } = found.open()
        {
            *is_open = true;
        }
    }

    /// Whether every object on this way is always there.
    fn is_sure(&mut self, steps: &[Step]) -> bool {
        let Some((step, rest)) = steps.split_first() else { return true };
        match (step, self.open()) {
            (Step::Each, Self::List(item)) => item.is_sure(rest),
            (Step::Member(name), Self::Object { members, .. }) => {
                members.get_mut(name).is_some_and(|entry| entry.is_sure && entry.shape.is_sure(rest))
            }
            _ => false,
        }
    }
}

fn opened<'s>(layers: &Layers<'s>) -> Shape<'s> {
    use super::compat::layers::Kind;
    let kinds = layers.kinds();
    let is_plain = !layers.layers.iter().any(|layer| {
        ["anyOf", "oneOf", "if", "not", "patternProperties", "dependentSchemas", "$dynamicRef"]
            .iter()
            .any(|name| layer.map.contains_key(*name))
    });
    if kinds.contains(&Kind::Array) && !kinds.contains(&Kind::Object) {
        return Shape::List(Box::new(Shape::Schema(layers.item(usize::MAX))));
    }
    let declared = layers.declared();
    if !kinds.contains(&Kind::Object) || (declared.is_empty() && layers.layers.is_empty()) {
        return Shape::Anything;
    }
    let required = layers.required();
    let entry = |name: &&str| Entry { shape: Shape::Schema(layers.member(name)), is_sure: required.contains(name) };
    let members = declared.iter().map(|name| ((*name).to_owned(), entry(name))).collect();
    // An object that may be null as well is known all the same.
    let is_open = !is_plain || layers.further_members().is_some() || declared.is_empty();
    Shape::Object { members, is_open }
}

fn missing(members: &BTreeMap<String, Entry<'_>>, name: &str) -> Missing {
    let likeness = |known: &String| strsim::jaro_winkler(name, known);
    let nearest = members.keys().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).filter(|near| likeness(near) > ALIKE);
    Missing { name: name.to_owned(), nearest: nearest.cloned() }
}

fn compare(
    shape: &mut Shape<'_>,
    target: &Layers<'_>,
    path: &str,
    versions: (u32, u32),
    depth: usize,
    faults: &mut Vec<ShapeFault>,
) {
    if depth > DEEPEST {
        return;
    }
    match shape.open() {
        Shape::List(item) => compare(item, &target.item(usize::MAX), &format!("{path}[]"), versions, depth + 1, faults),
        Shape::Object { members, is_open } => {
            let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let (from, to) = versions;
            for name in target.required() {
                let text = match members.get(name) {
                    Some(entry) if entry.is_sure => continue,
                    None if *is_open => continue,
                    Some(_) => format!(
                        "\"{}\" is optional in version {from} and required in version {to}; give it a default with invented = true",
                        at(name)
                    ),
                    None => format!("version {to} requires \"{}\", and the cast never sets it", at(name)),
                };
                faults.push(ShapeFault { operation: None, text });
            }
            for (name, entry) in members {
                let wanted = target.member(name);
                if wanted.is_false {
                    let text =
                        format!("version {to} has no \"{}\" and forbids other members, and the cast does not drop it", at(name));
                    faults.push(ShapeFault { operation: None, text });
                } else if !wanted.is_empty() {
                    compare(&mut entry.shape, &wanted, &at(name), versions, depth + 1, faults);
                }
            }
        }
        Shape::Schema(_) | Shape::Anything => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::path::Path;

    const V1: &str = r##"{"type":"object","required":["id","total"],"properties":{
        "id":{"type":"string"},"total":{"type":"string"},"note":{"type":"string"},
        "lines":{"type":"array","items":{"$ref":"#/$defs/line"}}},
        "$defs":{"line":{"type":"object","required":["sku"],"properties":{"sku":{"type":"string"},"part":{"$ref":"#/$defs/line"}}}}}"##;
    const V2: &str = r#"{"type":"object","required":["order_id","total","note"],"additionalProperties":false,"properties":{
        "order_id":{"type":"string"},"total":{"type":"string"},"note":{"type":"string"},
        "lines":{"type":"array","items":{"type":"object","required":["article"],"properties":{"article":{"type":"string"}}}}}}"#;

    fn path(text: &str) -> Path {
        Path::parse(text).expect("a path")
    }

    fn rename(from: &str, to: &str) -> Operation {
        Operation::rename(path(from), to).expect("valid")
    }

    fn faults(operations: Vec<Operation>) -> Vec<String> {
        let (from, to) = (Schema::parse(V1).expect("valid"), Schema::parse(V2).expect("valid"));
        let found = check(&Cast::new(operations, vec![]), (&from, 1), (&to, 2));
        found.into_iter().map(|fault| fault.text).collect()
    }

    #[test]
    fn a_cast_that_gives_the_other_version_what_it_needs_has_no_fault() {
        let note = Operation::Default { path: path("note"), value: "\"\"".to_owned() };
        assert_eq!(faults(vec![rename("id", "order_id"), rename("lines[].sku", "article"), note]), Vec::<String>::new());
    }

    #[test]
    fn a_cast_on_a_missing_path_is_told_with_the_nearest_name() {
        for (operation, want) in [
            (rename("idd", "order_id"), "rename \"idd\": a payload of version 1 has no \"idd\" here; did you mean \"id\"?"),
            (
                rename("lines[].skuu", "article"),
                "rename \"lines[].skuu\": a payload of version 1 has no \"skuu\" here; did you mean \"sku\"?",
            ),
            (
                rename("lines.sku", "article"),
                "rename \"lines.sku\": a payload of version 1 has no \"sku\" here; did you mean \"[]\"?",
            ),
            (Operation::Drop { path: path("x.y") }, "drop \"x.y\": a payload of version 1 has no \"x\" here"),
        ] {
            assert_eq!(faults(vec![operation]), [want]);
        }
        assert_eq!(faults(vec![rename("id", "a"), rename("id", "b")]).len(), 1, "the first has moved it away");
    }

    #[test]
    fn what_the_other_version_needs_or_forbids_is_told() {
        assert_eq!(
            faults(vec![rename("id", "order")]),
            [
                "\"note\" is optional in version 1 and required in version 2; give it a default with invented = true",
                "version 2 requires \"order_id\", and the cast never sets it",
                "version 2 requires \"lines[].article\", and the cast never sets it",
                "version 2 has no \"order\" and forbids other members, and the cast does not drop it",
            ]
        );
    }

    #[test]
    fn where_a_schema_leaves_things_open_nothing_is_told() {
        let open = Schema::parse(r#"{"type":"object"}"#).expect("valid");
        let to = Schema::parse(V2).expect("valid");
        assert_eq!(check(&Cast::new(vec![rename("a.b[].c", "d")], vec![]), (&open, 1), (&to, 2)), []);
    }
}
