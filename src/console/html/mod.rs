//! What pages are made of. Everything is escaped by the templates; what others wrote goes through `parts::foreign` in addition, so that it cannot turn
//! the direction of the text around it or hide in it. `tests/tidy` refuses the one way to write unescaped text.

mod layout;
mod parts;
mod times;

pub use layout::{Frame, Page, failure, login};
pub use parts::*;
pub use times::*;
