//! Runs the server without the command-line program: `--data-dir X --port N`.

use std::net::SocketAddr;

use dlog_broker::{Broker, BrokerConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let mut config = BrokerConfig::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments
            .next()
            .ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--data-dir" => config.data_dir = value.into(),
            "--port" => {
                config.listeners[0].bind = SocketAddr::from(([127, 0, 0, 1], value.parse()?));
            }
            "--flush" => drop(config.defaults.insert("log.flush".to_owned(), value)),
            _ => {
                return Err(format!("unknown argument {name}: --data-dir, --port, --flush").into());
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let broker = Broker::start(config).await?;
        println!("ready kafka={}", broker.kafka_addrs()[0].1);
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            result = tokio::signal::ctrl_c() => result?,
        }
        broker.shutdown().await?;
        println!("stopped");
        Ok(())
    })
}
