//! Halves: which events of a batch to call at once, so that a few failures among many are found in few calls. Pure: knows
//! indexes, not events.

/// A batch that is tried as a whole, then in halves where something in it failed, from the front to the back.
#[derive(Debug)]
pub struct Halves(Vec<(usize, usize)>);

impl Halves {
    pub fn of(length: usize) -> Self {
        Self(vec![(0, length)])
    }

    /// The places to try next: the first, and the one behind the last.
    pub fn take_next(&mut self) -> Option<(usize, usize)> {
        self.0.pop()
    }

    /// Something between these places failed, and they are more than one.
    pub fn split(&mut self, (first, end): (usize, usize)) {
        let middle = first.midpoint(end);
        self.0.extend([(middle, end), (first, middle)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often something is tried until each bad place stands alone; in order.
    fn tries(length: usize, bad: &[usize]) -> usize {
        let (mut halves, mut tried, mut reached) = (Halves::of(length), 0, 0);
        while let Some(part @ (first, end)) = halves.take_next() {
            tried += 1;
            match bad.iter().any(|at| (first..end).contains(at)) && end - first > 1 {
                true => halves.split(part),
                false => {
                    assert_eq!(first, reached, "nothing is left out, and nothing comes before what stands before it");
                    reached = end;
                }
            }
        }
        assert_eq!(reached, length);
        tried
    }

    #[test]
    fn a_few_bad_ones_among_many_are_found_in_few_tries_and_in_order() {
        assert_eq!(tries(512, &[]), 1);
        for at in [0, 255, 256, 511] {
            assert_eq!(tries(512, &[at]), 19);
        }
        assert!(tries(500, &[3, 250, 499]) < 60);
        assert_eq!(tries(3, &[0, 1, 2]), 5);
    }
}
