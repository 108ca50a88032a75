//! Erasure: whether a restored backup has brought keys of forgotten persons back, and whether the ledger knows all of them.

use super::Finding;
use crate::store::facts::Facts;

pub(super) fn judge(facts: &Facts, findings: &mut Vec<Finding>) {
    let Some(erasure) = &facts.erasure else { return };
    if let Some(first) = erasure.revived.first() {
        let what = format!("{} subjects that were forgotten have keys again, {first} among them", erasure.revived.len());
        let why = "the database was restored from a backup from before: their data can be read again, and a relay refuses to start";
        findings.push(Finding::critical("erasure", what, why).shell("outboxd forget --again --because 'restored from a backup'"));
    }
    if erasure.unwritten > 0 {
        let what = format!("the ledger lacks {} keys that were destroyed in this database", erasure.unwritten);
        let why = "a restored backup would bring them back, and nothing would notice; the ledger was lost, or is that of another database";
        findings.push(Finding::warning("erasure", what, why).shell("outboxd forget --again --because 'completing the ledger'"));
    }
}
