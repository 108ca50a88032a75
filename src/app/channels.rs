//! Alert channels, built from the configuration and from the declarations of their kinds.

use std::sync::Arc;

use super::{KIND_FIELDS, build_from, nearest_of};
use crate::channels::{self, CHANNELS, Channel};
use crate::config::{CHANNEL_COMMON, ChannelConfig, channel_path};
use crate::settings::{Mistake, Mistakes};

/// A channel of the configuration, ready to send.
pub type BuiltChannel = (ChannelConfig, Arc<dyn Channel>);

/// Checks what belongs to the kinds, and builds every channel. In the order of the configuration.
pub(super) fn build_channels(configs: &[ChannelConfig]) -> (Vec<BuiltChannel>, Vec<Mistake>) {
    let mistakes = Mistakes::default();
    let built = configs.iter().enumerate().filter_map(|(index, config)| {
        let path = channel_path(index, &config.name);
        Some((config.clone(), build_one(&path, config, &mistakes)?))
    });
    (built.collect(), mistakes.into_vec())
}

fn build_one(path: &str, config: &ChannelConfig, mistakes: &Mistakes) -> Option<Arc<dyn Channel>> {
    // A missing kind was reported by the configuration, with what a kind is.
    if config.kind.is_empty() {
        return None;
    }
    let Some(kind) = channels::channel_kind(&config.kind) else {
        let names: Vec<&str> = CHANNELS.iter().map(|kind| kind.name).collect();
        mistakes.add(format!("{path}.kind"), nearest_of(&config.kind, &names));
        return None;
    };
    let fields = (KIND_FIELDS.channels)(kind.name).unwrap_or_default();
    build_from(path, (kind.name, fields), &config.settings, CHANNEL_COMMON, kind.build, mistakes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FakeEnvironment;

    fn mistakes_of(text: &str) -> Vec<String> {
        match crate::app::parse(text, &FakeEnvironment::with_database()) {
            Ok(_) => Vec::new(),
            Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn mistakes_of_channels_come_out_with_all_others() {
        let text = "[relay]\nlease = 15\n[alerts]\nintervall = \"1s\"\n\
                    [[alerts.channels]]\nname = \"a\"\nkind = \"slak\"\n\
                    [[alerts.channels]]\nname = \"b\"\nkind = \"slack\"\nurl = \"hunter2\"\n\
                    [[alerts.channels]]\nname = \"c\"\nkind = \"pagerduty\"\n\
                    [[alerts.channels]]\nname = \"d\"\nkind = \"smtp\"\nhost = \"h\"\nfrom = \"nobody\"\nto = [\"a@b\"]\nusername = \"u\"\n\
                    [[alerts.channels]]\nname = \"e\"\nkind = \"alertmanager\"\nurls = [\"http://x\"]\nlabels = { \"a-b\" = \"c\" }";
        assert_eq!(
            mistakes_of(text),
            [
                "relay.lease: got 15, expected a duration such as \"30s\"",
                "alerts: unknown key \"intervall\"; did you mean \"interval\"?",
                "alerts.channels.a.kind: got \"slak\", expected \"alertmanager\" or \"pagerduty\" or \"slack\" or \"smtp\" or \
                 \"webhook\" or \"log\"; did you mean \"slack\"?",
                "alerts.channels.b.url: expected an http or https URL such as \"https://example.org/x\"",
                "alerts.channels.c: needs \"routing_key\", a text, best from the environment: \"${NAME}\": \
                 The integration key of the service (Events API v2).",
                "alerts.channels.d.from: got \"nobody\", expected an address such as \"ops@example.org\"",
                "alerts.channels.d.password: is missing: username needs it",
                "alerts.channels.e.labels.a-b: expected letters, digits and underscores, and none of outboxd's own labels",
            ]
        );
    }

    #[test]
    fn no_kind_declares_a_setting_that_every_channel_has() {
        for kind in CHANNELS {
            for field in kind.fields {
                let is_common = CHANNEL_COMMON.iter().any(|common| common.name == field.name);
                assert!(!is_common && !["name", "kind"].contains(&field.name), "{}.{}", kind.name, field.name);
            }
        }
    }

    #[test]
    fn a_password_is_not_sent_in_the_clear() {
        let text = "[[alerts.channels]]\nname = \"d\"\nkind = \"smtp\"\nhost = \"h\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\n\
                    username = \"u\"\npassword = \"hunter2\"\ntls = \"none\"";
        let mistakes = mistakes_of(text);
        assert!(mistakes.len() == 1 && mistakes[0].starts_with("alerts.channels.d.tls: ") && !mistakes[0].contains("hunter2"));
    }
}
