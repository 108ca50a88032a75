//! A configuration of any bytes, and a short test for every function for fuzzing: the corpus in `tests/corpus/`, and random
//! variations of it. Never part of a binary.

use std::io;
use std::path::Path;

use crate::config::Environment;
pub use crate::handlers::fuzzing::{answer, envelope, signature, template};

/// Has every variable and no file.
struct Anything;

impl Environment for Anything {
    fn variable(&self, _: &str) -> Option<String> {
        Some("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned())
    }

    fn read_file(&self, _: &Path) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn directory(&self) -> &Path {
        Path::new("/nowhere")
    }
}

/// A configuration: every mistake has a text, none is reported twice. Nothing is built of it, because a build may start what it needs.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(draft) = crate::config::read(text, &Anything, super::KIND_FIELDS) else { return };
    if let Err(mistakes) = draft.finish(Vec::new()) {
        let mut texts: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        let told = texts.len();
        assert!(told > 0 && texts.iter().all(|text| !text.is_empty()), "a mistake says what it is");
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), told, "each mistake is told once: {texts:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Target = (&'static str, fn(&[u8]));

    const TARGETS: &[Target] =
        &[("config", config), ("template", template), ("answer", answer), ("signature", signature), ("envelope", envelope)];

    fn corpus(name: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
        let mut paths: Vec<_> = std::fs::read_dir(folder).expect("a corpus").flatten().map(|entry| entry.path()).collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).expect("a file")).collect()
    }

    #[test]
    fn the_corpus_breaks_nothing() {
        for (name, target) in TARGETS {
            let inputs = corpus(name);
            assert!(!inputs.is_empty(), "{name}");
            inputs.iter().for_each(|input| target(input));
        }
    }

    proptest! {
        /// Pieces of the corpus, cut, joined and with single bytes changed: what a fuzzer does, for a moment.
        #[test]
        fn what_is_like_the_corpus_breaks_nothing(
            which in any::<prop::sample::Index>(),
            pieces in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let (name, target) = which.get(TARGETS);
            let inputs = corpus(name);
            let mut data = Vec::new();
            for (input, from, to) in &pieces {
                let input = input.get(&inputs);
                let (from, to) = (from.index(input.len() + 1), to.index(input.len() + 1));
                data.extend_from_slice(&input[from.min(to)..from.max(to)]);
            }
            for (place, byte) in &changes {
                if !data.is_empty() {
                    let place = place.index(data.len());
                    data[place] = *byte;
                }
            }
            target(&data);
        }
    }
}
