//! Probing: logs in as a delivery would and looks whether events have somewhere to go. Declares nothing and publishes nothing.

use lapin::ErrorKind;

use super::RabbitMq;
use super::broker::Broker;
use super::classify::Stage;
use super::settings::Declared;

const NOT_FOUND: u16 = 404;

impl RabbitMq {
    pub(super) async fn look(&self) -> Result<String, String> {
        match tokio::time::timeout(self.connect_timeout, self.find()).await {
            Ok(found) => found,
            Err(_) => Err(format!("no answer from {} within {:?}", self.address.target, self.connect_timeout)),
        }
    }

    async fn find(&self) -> Result<String, String> {
        let broker = self.log_in().await.map_err(|verdict| format!("could not connect: {}", verdict.detail))?;
        let found = match self.recipe.exchange() {
            "" => self.find_queue(&broker).await?,
            exchange => self.find_exchange(&broker, exchange).await?,
        };
        Ok(format!("connected to {}, virtual host \"{}\", {found}", self.address.target, self.address.uri.vhost))
    }

    async fn find_exchange(&self, broker: &Broker, exchange: &str) -> Result<String, String> {
        match self.check_exchange(broker).await {
            Ok(()) => Ok(format!("exchange \"{exchange}\"")),
            Err(error) if is_missing(&error) && self.declared != Declared::Elsewhere => {
                Ok(format!("exchange \"{exchange}\" which will be declared"))
            }
            Err(error) => Err(self.failed(&error, Stage::Connecting).detail),
        }
    }

    async fn find_queue(&self, broker: &Broker) -> Result<String, String> {
        let Some(queue) = self.recipe.constant_key() else { return Ok("the default exchange".to_owned()) };
        match self.check_queue(broker, queue).await {
            Ok(()) => Ok(format!("queue \"{queue}\"")),
            Err(error) => Err(self.failed(&error, Stage::Connecting).detail),
        }
    }
}

fn is_missing(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ProtocolError(answer) if answer.get_id() == NOT_FOUND)
}
