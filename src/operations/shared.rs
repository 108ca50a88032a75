//! One answer for everybody who asks the same at about the same time: ten viewers cost the database what one costs. Whoever comes while the
//! answer is read waits for it. Kept for a moment only, and not beyond an act of an operator.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// Questions whose answers are kept at once, at most.
const MOST_QUESTIONS: usize = 64;

/// An answer and when it was read; empty until then.
type Slot<V> = Arc<Mutex<Option<(Instant, Arc<V>)>>>;

/// Answers by question.
#[derive(Debug)]
pub struct Shared<Q, V> {
    fresh: Duration,
    slots: std::sync::Mutex<HashMap<Q, Slot<V>>>,
}

impl<Q: Hash + Eq + Clone, V> Shared<Q, V> {
    /// An answer is given for so long after it was read.
    pub fn new(fresh: Duration) -> Self {
        Self { fresh, slots: std::sync::Mutex::default() }
    }

    /// The answer to a question: a fresh one that is there, or what `read` gives. A failure is not kept.
    pub async fn get<E>(&self, question: &Q, read: impl Future<Output = Result<V, E>>) -> Result<Arc<V>, E> {
        let slot = self.slot(question);
        let mut answer = slot.lock().await;
        if let Some((_, known)) = answer.as_ref().filter(|(at, _)| at.elapsed() < self.fresh) {
            return Ok(Arc::clone(known));
        }
        let began = Instant::now();
        let new = Arc::new(read.await?);
        *answer = Some((began, Arc::clone(&new)));
        Ok(new)
    }

    /// Something was changed. What is being read by now is given to those who wait for it, and to nobody who comes later.
    pub fn forget(&self) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn slot(&self, question: &Q) -> Slot<V> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MOST_QUESTIONS && !slots.contains_key(question) {
            // What is old is of no use; so many questions within a moment are not those of people.
            slots.retain(|_, slot| {
                slot.try_lock().is_ok_and(|answer| answer.as_ref().is_some_and(|(at, _)| at.elapsed() < self.fresh))
            });
            if slots.len() >= MOST_QUESTIONS {
                slots.clear();
            }
        }
        Arc::clone(slots.entry(question.clone()).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    async fn read(reads: &AtomicU32) -> Result<u32, String> {
        tokio::task::yield_now().await;
        Ok(reads.fetch_add(1, Ordering::SeqCst))
    }

    #[tokio::test]
    async fn those_who_ask_the_same_at_once_get_one_answer() {
        let (shared, reads) = (Shared::new(LONG), AtomicU32::new(0));
        let answers = futures_util::future::join_all((0..10).map(|_| shared.get(&"groups", read(&reads)))).await;
        assert!(answers.iter().all(|answer| answer.as_deref() == Ok(&0)), "{answers:?}");
        assert_eq!(shared.get(&"status", read(&reads)).await.as_deref(), Ok(&1));
        shared.forget();
        assert_eq!(shared.get(&"groups", read(&reads)).await.as_deref(), Ok(&2));
    }

    #[tokio::test]
    async fn a_failure_and_what_is_old_are_read_anew_and_questions_are_bounded() {
        let (shared, reads) = (Shared::new(Duration::ZERO), AtomicU32::new(0));
        let failed = shared.get(&0, async { Err::<u32, _>("away".to_owned()) }).await;
        assert_eq!(failed, Err("away".to_owned()));
        for question in 0..1_000 {
            assert_eq!(shared.get(&question, read(&reads)).await.as_deref(), Ok(&question));
        }
        assert!(shared.slots.lock().expect("no panic").len() <= MOST_QUESTIONS);
    }
}
