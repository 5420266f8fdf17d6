//! Starting and stopping the server.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use dlog_metadata::{Endpoint, LocalMetadataLog, MetadataRecord};
use dlog_storage::disk::DirLock;
use dlog_storage::{FlushObserver, LogEnv, lock_dir};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::fetch::FetchSessions;
use crate::compaction::{Cleaners, Compaction};
use crate::config::BrokerConfig;
use crate::error::{BrokerError, Result};
use crate::guard::{self, DiskGuard};
use crate::identity;
use crate::metrics::Metrics;
use crate::net::listener::{self, BoundListener};
use crate::partitions::{self, MAX_PRODUCERS, Partitions, Upkeep, UpkeepWork};
use crate::producer_ids::ProducerIds;
use crate::state::BrokerState;

/// A running server. Dropping it without [`Broker::shutdown`] is a crash: nothing acknowledged is lost,
/// but the next start recovers.
pub struct Broker {
    state: Arc<BrokerState>,
    addresses: Vec<(String, SocketAddr)>,
    tasks: TaskTracker,
    stop: CancellationToken,
    upkeep: Mutex<Option<(Upkeep, Cleaners)>>,
    /// Held as long as the server runs.
    _lock: Box<dyn DirLock>,
}

struct FlushMetrics(Arc<Metrics>);

impl FlushObserver for FlushMetrics {
    fn flushed(&self, duration: Duration, ok: bool) {
        self.0.flushed(duration, ok);
    }
}

impl Broker {
    /// Opens the data folder, recovers what has to be recovered, and listens. When this returns,
    /// clients are served. Must be called on a tokio runtime with time and I/O enabled.
    ///
    /// # Errors
    /// [`BrokerError`]: the settings, the data folder or an address does not work.
    pub async fn start(config: BrokerConfig) -> Result<Self> {
        check(&config)?;
        crate::protocol::shape::prepare();
        let config = reserve_files(config, listener::raise_open_file_limit());
        // Ports are taken first, so that a second server on them fails before it touches the data.
        let listeners: Vec<BoundListener> = config
            .listeners
            .iter()
            .map(listener::bind)
            .collect::<Result<_>>()?;
        let endpoints: Vec<Endpoint> = listeners.iter().map(|l| (*l.endpoint).clone()).collect();
        let opening = tokio::task::spawn_blocking(move || open(config, endpoints));
        let (state, upkeep, lock) = opening.await.map_err(|error| BrokerError::Io {
            operation: "open",
            path: "the data folder".into(),
            source: std::io::Error::other(error),
        })??;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut addresses = Vec::new();
        for listener in listeners {
            tracing::info!(listener = listener.endpoint.listener, address = %listener.address, "listening");
            addresses.push((listener.endpoint.listener.clone(), listener.address));
            tasks.spawn(listener::accept(
                listener,
                state.clone(),
                tasks.clone(),
                stop.clone(),
            ));
        }
        let warming = state.clone();
        tasks.spawn(async move {
            // Groups first: transactions end in their partitions too.
            warming.groups.warm_up(&warming).await;
            warming.transactions.warm_up(&warming).await;
            crate::share::warm_up(&warming).await;
        });
        let upkeep = Mutex::new(Some(upkeep));
        Ok(Self {
            state,
            addresses,
            tasks,
            stop,
            upkeep,
            _lock: lock,
        })
    }

    /// The addresses that are listened on, by listener name, in the order of the settings.
    pub fn kafka_addrs(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// What the connections share; the console reads from it.
    pub fn state(&self) -> &Arc<BrokerState> {
        &self.state
    }

    /// The metrics.
    pub fn registry(&self) -> Arc<Mutex<Registry>> {
        self.state.metrics.registry()
    }

    /// Whether clients are served: the server is not stopping.
    pub fn is_ready(&self) -> bool {
        !self.stop.is_cancelled()
    }

    /// Stops accepting, answers what is under way, closes the logs so that the next start recovers
    /// nothing. Requests that take longer than `shutdown_timeout_ms` are cut off.
    ///
    /// # Errors
    /// The first log that did not close cleanly; the others are closed all the same.
    pub async fn shutdown(&self) -> Result<()> {
        self.state.stopping.cancel();
        self.stop.cancel();
        self.tasks.close();
        let patience = Duration::from_millis(self.state.config.shutdown_timeout_ms);
        if tokio::time::timeout(patience, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                connections = self.tasks.len(),
                "connections are cut off: they took too long"
            );
        }
        let upkeep = self.upkeep.lock().take();
        let state = self.state.clone();
        let closing = tokio::task::spawn_blocking(move || {
            if let Some((upkeep, cleaners)) = upkeep {
                cleaners.stop();
                upkeep.stop();
            }
            close(&state)
        });
        closing.await.map_err(|error| BrokerError::Io {
            operation: "close",
            path: "the data folder".into(),
            source: std::io::Error::other(error),
        })?
    }
}

/// Keeps connections from taking the file descriptors that the logs need: a quarter stays theirs.
fn reserve_files(mut config: BrokerConfig, open_files: u64) -> BrokerConfig {
    let for_connections = u32::try_from(open_files - open_files / 4).unwrap_or(u32::MAX);
    if for_connections < config.max_connections {
        tracing::info!(
            open_files,
            max_connections = for_connections,
            "fewer connections than set: raise the limit of open files"
        );
        config.max_connections = for_connections;
    }
    config
}

fn check(config: &BrokerConfig) -> Result<()> {
    let wrong = |name, reason: String| Err(BrokerError::Config { name, reason });
    if config.listeners.is_empty() {
        return wrong("listeners", "at least one is needed".to_owned());
    }
    if config.node_id < 0 {
        return wrong("node.id", "must not be negative".to_owned());
    }
    if config.num_partitions < 1 || config.num_partitions > config.max_partitions_per_topic {
        return wrong(
            "num.partitions",
            format!(
                "{} does not lie between 1 and max.partitions.per.topic, {}",
                config.num_partitions, config.max_partitions_per_topic
            ),
        );
    }
    if config.socket_request_max_bytes > i32::MAX as u32 {
        return wrong(
            "socket.request.max.bytes",
            "must be at most 2147483647".to_owned(),
        );
    }
    for (at, listener) in config.listeners.iter().enumerate() {
        if config.listeners[..at]
            .iter()
            .any(|other| other.name == listener.name)
        {
            return wrong("listeners", format!("{} is given twice", listener.name));
        }
    }
    for (name, value) in &config.defaults {
        let Some(def) = dlog_metadata::configs::broker::find(name) else {
            return wrong("defaults", format!("there is no setting {name}"));
        };
        if let Err(error) = def.validate(value) {
            return wrong("defaults", error.to_string());
        }
    }
    Ok(())
}

/// What Kafka's tools are shown as given in the server's configuration.
fn statics(config: &BrokerConfig, endpoints: &[Endpoint]) -> dlog_metadata::configs::StaticConfigs {
    let mut statics = config.defaults.clone();
    let listeners: Vec<String> = config
        .listeners
        .iter()
        .zip(endpoints)
        .map(|(l, e)| format!("{}://{}:{}", l.name, l.bind.ip(), e.port))
        .collect();
    let advertised: Vec<String> = endpoints
        .iter()
        .map(|e| format!("{}://{}:{}", e.listener, e.host, e.port))
        .collect();
    // Kafka's tools read 32-bit integers with a sign.
    let as_int = |number: u32| number.min(i32::MAX as u32).to_string();
    let given = [
        ("node.id", config.node_id.to_string()),
        ("broker.id", config.node_id.to_string()),
        ("log.dirs", config.data_dir.display().to_string()),
        ("log.dir", config.data_dir.display().to_string()),
        ("listeners", listeners.join(",")),
        ("advertised.listeners", advertised.join(",")),
        (
            "auto.create.topics.enable",
            config.auto_create_topics.to_string(),
        ),
        ("max.connections", as_int(config.max_connections)),
        (
            "max.connections.per.ip",
            as_int(config.max_connections_per_ip),
        ),
        (
            "max.incremental.fetch.session.cache.slots",
            config.fetch_session_cache_slots.to_string(),
        ),
        (
            "producer.id.expiration.ms",
            config.producer_id_expiration_ms.to_string(),
        ),
        (
            MAX_PRODUCERS,
            config.producer_id_max_per_partition.to_string(),
        ),
        ("num.partitions", config.num_partitions.to_string()),
        (
            "socket.request.max.bytes",
            config.socket_request_max_bytes.to_string(),
        ),
        (
            "connections.max.idle.ms",
            config.connections_max_idle_ms.to_string(),
        ),
        ("fetch.max.bytes", config.fetch_max_bytes.to_string()),
        (
            "log.retention.check.interval.ms",
            config.retention_check_interval_ms.to_string(),
        ),
    ];
    for (name, value) in given {
        statics.entry(name.to_owned()).or_insert(value);
    }
    statics
}

type Opened = (Arc<BrokerState>, (Upkeep, Cleaners), Box<dyn DirLock>);

/// Everything before the first connection; waits for the disk.
fn open(config: BrokerConfig, endpoints: Vec<Endpoint>) -> Result<Opened> {
    let mut env = LogEnv::with_flusher_threads(usize::from(config.flusher_threads.max(1)));
    env.take_lock = false;
    let dir = config.data_dir.clone();
    let io = |operation| {
        let path = dir.clone();
        move |source| BrokerError::Io {
            operation,
            path,
            source,
        }
    };
    env.disk.create_dir_all(&dir).map_err(io("create"))?;
    let lock = lock_dir(&*env.disk, &dir)?;
    let statics = statics(&config, &endpoints);
    guard::make_room_to_open(&*env.disk, &dir, &statics);
    let cluster_id = config.cluster_id.as_deref();
    let identity = identity::load_or_create(&*env.disk, &dir, config.node_id, cluster_id)?;
    let metrics = Arc::new(Metrics::new());
    env.flusher.observe(Arc::new(FlushMetrics(metrics.clone())));
    let metadata = LocalMetadataLog::open(&env, &dir)?;
    let (work, folders) = mpsc::channel();
    let max_share_sessions = statics.get("group.share.max.share.sessions");
    let max_share_sessions = max_share_sessions.and_then(|most| most.parse().ok());
    let state = Arc::new(BrokerState {
        statics,
        identity,
        env,
        metadata,
        partitions: Partitions::default(),
        fetch_sessions: FetchSessions::new(
            config.fetch_session_cache_slots,
            config.min_fetch_session_eviction_ms,
        ),
        producer_ids: ProducerIds::default(),
        groups: crate::groups::Groups::default(),
        share: crate::share::ShareGroups::new(max_share_sessions),
        share_states: crate::share::store::ShareStates::default(),
        compaction: Compaction::default(),
        guard: DiskGuard::default(),
        loggers: std::sync::OnceLock::new(),
        transactions: crate::transactions::Transactions::default(),
        metrics,
        connections: Arc::default(),
        upkeep: work.clone(),
        stopping: CancellationToken::new(),
        config,
    });
    state.metrics.observe(&state);
    register(&state, endpoints)?;
    clean_up(&state);
    open_partitions(&state);
    state.guard.tend(&state);
    let upkeep = Upkeep::start(&state, folders, work).map_err(io("start the upkeep of"))?;
    let cleaners = Cleaners::start(&state).map_err(io("start the compaction of"))?;
    Ok((state, (upkeep, cleaners), lock))
}

/// Tells the metadata who this node is.
fn register(state: &BrokerState, endpoints: Vec<Endpoint>) -> Result<()> {
    let node_id = state.node_id();
    let registered = state.metadata.change(|image| {
        let mut records = Vec::new();
        match image.cluster_id() {
            None => {
                let cluster_id = state.identity.cluster_id.clone();
                records.push(MetadataRecord::ClusterId { cluster_id });
            }
            Some(known) if known != state.identity.cluster_id => {
                return Err(BrokerError::Identity {
                    path: state.config.data_dir.join(identity::FILE),
                    reason: format!(
                        "names cluster {}, but the metadata is of {known}: restore the file",
                        state.identity.cluster_id
                    ),
                });
            }
            Some(_) => {}
        }
        let rack = state.config.rack.clone();
        let known = image.broker(node_id);
        if known.is_none_or(|known| known.endpoints != endpoints || known.rack != rack) {
            records.push(MetadataRecord::BrokerRegistered {
                node_id,
                endpoints,
                rack,
            });
        }
        Ok((records, ()))
    });
    registered.map_err(|error| match error {
        dlog_metadata::ChangeError::Refused(error) => error,
        dlog_metadata::ChangeError::Failed(error) => error.into(),
    })
}

/// Folders of topics that were deleted before, or while, the server stopped.
fn clean_up(state: &BrokerState) {
    for folder in partitions::leftovers(&*state.env.disk, &state.config.data_dir) {
        // The receiver lives as long as the upkeep thread, which starts later and then finds them.
        drop(state.upkeep.send(UpkeepWork::Remove(folder)));
    }
}

fn open_partitions(state: &BrokerState) {
    let started = std::time::Instant::now();
    let image = state.image();
    let topics = image
        .topics()
        .map(|topic| (topic.clone(), state.settings_of(&image, topic)))
        .collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = match state.config.recovery_threads {
        0 => cores,
        threads => usize::from(threads),
    };
    let data_dir = state.config.data_dir.clone();
    let opening = partitions::OpenAll {
        env: &state.env,
        data_dir,
        metrics: &state.metrics,
        threads,
    };
    let hosted = opening.run(topics);
    let _changing = state.partitions.changing.lock();
    state.partitions.publish(hosted);
    tracing::info!(
        topics = image.topic_count(),
        partitions = image.partition_count(),
        took_ms = started.elapsed().as_millis() as u64,
        cluster = state.identity.cluster_id,
        "data folder opened"
    );
}

/// Closes all logs, on several threads, since each one syncs.
fn close(state: &BrokerState) -> Result<()> {
    let _changing = state.partitions.changing.lock();
    let partitions: Vec<_> = state
        .partitions
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions.clone())
        .collect();
    let first_error = Mutex::new(None);
    let next = std::sync::atomic::AtomicUsize::new(0);
    let close_next = || {
        while let Some(partition) =
            partitions.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        {
            let Ok(log) = partition.log() else { continue };
            if let Err(error) = log.close() {
                tracing::error!(topic = %partition.topic, partition = partition.index, %error, "the log did not close cleanly");
                first_error.lock().get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| {
        for number in 0..partitions.len().min(8).saturating_sub(1) {
            let named = std::thread::Builder::new().name(format!("dlog-close-{number}"));
            // This thread closes what no other one takes.
            drop(named.spawn_scoped(scope, close_next));
        }
        close_next();
    });
    state.metadata.close()?;
    match first_error.into_inner() {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}
