//! Users that an account vouches for: JWTs signed by NKeys, as a `.creds` file carries them. Made here, because the tool that makes
//! them is in no package.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use outboxd::domain::{Outcome, Reason, Verdict};
use rcgen::{KeyPair, PKCS_ED25519};
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};

use super::{assert_verdict, deliver, event, publisher};
use crate::support::nats_server_of;

const SEED: u8 = 18 << 3;

#[derive(Clone, Copy)]
enum Role {
    Operator = 14 << 3,
    Account = 0,
    User = 20 << 3,
}

struct NKey {
    key: KeyPair,
    role: Role,
}

impl NKey {
    fn new(role: Role) -> Self {
        Self { key: KeyPair::generate_for(&PKCS_ED25519).expect("a key"), role }
    }

    fn public(&self) -> String {
        encoded(&[&[self.role as u8], self.key.public_key_raw()].concat())
    }

    fn seed(&self) -> String {
        let role = self.role as u8;
        // What stands between the header of PKCS #8 and the public key.
        encoded(&[&[SEED | role >> 5, (role & 31) << 3], &self.key.serialize_der()[16..48]].concat())
    }

    /// A JWT about `subject`, signed with this key.
    fn vouch(&self, subject: &Self, claims: &Value) -> String {
        let head = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
        let body = json!({ "jti": "x", "iat": 1, "iss": self.public(), "sub": subject.public(), "name": "x", "nats": claims });
        let text = [head, body].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(self.key.serialize_der())).expect("a key of the right kind");
        let signer = key.choose_scheme(&[SignatureScheme::ED25519]).expect("the only scheme");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signer.sign(text.as_bytes()).expect("signing works")))
    }
}

/// Base32 with a checksum (CRC-16/XMODEM) at the end.
fn encoded(bytes: &[u8]) -> String {
    let crc = bytes.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    });
    let bits: String = bytes.iter().chain(&crc.to_le_bytes()).map(|byte| format!("{byte:08b}")).collect();
    let value =
        |group: &[u8]| group.iter().chain([b'0'; 5].iter()).take(5).fold(0, |value, bit| value * 2 + usize::from(bit - b'0'));
    bits.as_bytes().chunks(5).map(|group| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[value(group)])).collect()
}

fn credentials(user: &NKey, jwt: &str) -> String {
    format!(
        "mode = \"core\"\ncredentials = '''\n-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n'''",
        user.seed()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credentials_file_identifies_a_user_that_its_account_vouches_for() {
    let (operator, system, account) = (NKey::new(Role::Operator), NKey::new(Role::Account), NKey::new(Role::Account));
    let limits =
        json!({ "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1 });
    let of_account = json!({ "type": "account", "version": 2, "limits": limits });
    let more = format!(
        "operator: \"{}\"\nresolver: MEMORY\nsystem_account: {system}\nresolver_preload {{ {system}: \"{}\", {}: \"{}\" }}",
        operator.vouch(&operator, &json!({ "type": "operator", "version": 2 })),
        operator.vouch(&system, &of_account),
        account.public(),
        operator.vouch(&account, &of_account),
        system = system.public(),
    );
    let Some(server) = nats_server_of(&more, &[]).await else { return };
    let (user, stranger) = (NKey::new(Role::User), NKey::new(Role::Account));
    let of_user = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    let jwt = account.vouch(&user, &of_user);

    assert_eq!(deliver(&publisher(&server, "x", &credentials(&user, &jwt)), &event()).await, Verdict::delivered());

    let vouched_by_nobody = credentials(&user, &stranger.vouch(&user, &of_user));
    let verdict = deliver(&publisher(&server, "x", &vouched_by_nobody), &event()).await;
    assert_verdict(&verdict, Outcome::HandlerFault, Reason::Unauthorized);
    assert!(!format!("{verdict:?}").contains(&user.seed()), "{verdict:?}");
}
