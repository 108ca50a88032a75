//! The counterpart of the kind `webhook`: the receiver of the other tests, behind a proxy that can be cut.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Arrived, Counterpart};
use crate::support::{Proxy, Receiver};

pub struct Webhooks {
    receiver: Receiver,
    proxy: Proxy,
    url: String,
}

impl Webhooks {
    pub async fn start() -> Self {
        let receiver = Receiver::start().await;
        let (proxy, url) = Proxy::in_front_of(&receiver.url()).await;
        Self { receiver, proxy, url }
    }
}

impl Counterpart for Webhooks {
    fn settings(&self) -> String {
        format!("url = \"{}\"", self.url)
    }

    fn arrived(&self) -> BoxFuture<'_, Vec<Arrived>> {
        let arrived = |received: crate::support::Received| Arrived {
            body: String::from_utf8_lossy(received.body()).into_owned(),
            id: received.id,
        };
        let all = self.receiver.received().into_iter().map(arrived).collect();
        async { all }.boxed()
    }

    fn take_away(&self) -> BoxFuture<'_, ()> {
        async { self.proxy.cut() }.boxed()
    }

    fn bring_back(&self) -> BoxFuture<'_, ()> {
        async { self.proxy.heal() }.boxed()
    }
}
