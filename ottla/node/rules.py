"""What the settings of a node must be together. Pure; every broken rule is a ValueError with one line."""

from ottla.node.endpoints import WILDCARDS, Endpoint
from ottla.node.settings import Settings

MIN_SECRET_BYTES = 16


def check(config: Settings) -> None:
    """Raises ValueError for the first rule that does not hold."""
    _roles(config)
    _listeners(config)
    _protocols(config)
    _advertised(config)
    _times(config)
    _limits(config)
    _secret(config)
    if config.cordoned_log_dirs:
        raise ValueError("cordoned.log.dirs is set while the cluster runs (IncrementalAlterConfigs), not in a file")
    if "," in config.log_dirs:
        raise ValueError("log.dirs: only one data directory is supported")


def inter_broker_name(config: Settings) -> str:
    """The listener that brokers replicate through: as configured, else PLAINTEXT, else the only one there is."""
    names = [each.name for each in config.listeners if each.name != config.controller_listener_names]
    if config.inter_broker_listener_name:
        return config.inter_broker_listener_name
    return "PLAINTEXT" if "PLAINTEXT" in names or len(names) != 1 else names[0]


def advertised_of(config: Settings, listener: Endpoint) -> Endpoint:
    return next((each for each in config.advertised_listeners if each.name == listener.name), listener)


def _roles(config: Settings) -> None:
    roles, voters = config.process_roles, {voter.id for voter in config.controller_quorum_voters}
    if not roles or len(set(roles)) != len(roles):
        raise ValueError("process.roles must name broker, controller or both, each once")
    if not voters and not config.controller_quorum_bootstrap_servers:
        raise ValueError("neither controller.quorum.voters nor controller.quorum.bootstrap.servers is set")
    if "controller" not in roles and config.node_id in voters:
        raise ValueError(f"node.id {config.node_id} is a voter, so process.roles must include controller")


def _listeners(config: Settings) -> None:
    controller = config.controller_listener_names
    names = {each.name for each in config.listeners}
    if "," in controller or not controller:
        raise ValueError("controller.listener.names must be exactly one name")
    if controller not in names:
        raise ValueError(f"controller.listener.names is {controller}, but listeners has no {controller}://host:port")
    clients = names - {controller}
    if "broker" in config.process_roles:
        if not clients:
            raise ValueError("a broker needs a listener besides the controller listener")
        inter_broker = inter_broker_name(config)
        if inter_broker == controller:
            raise ValueError("inter.broker.listener.name cannot be the controller listener")
        if inter_broker not in clients:
            raise ValueError(f"inter.broker.listener.name is {inter_broker}, which is not among the listeners")
    elif clients:
        raise ValueError(f"a node without the broker role has only the controller listener, not {min(clients)}")
    taken: dict[int, list[tuple[str, str]]] = {}
    places = [(f"listener {each.name}", each.host, each.port) for each in config.listeners]
    if config.ottla_http_listener is not None:
        places.append(("ottla.http.listener", *config.ottla_http_listener))
    for what, host, port in places:
        for other, other_host in taken.get(port, []) if port else []:
            if host == other_host or host in WILDCARDS or other_host in WILDCARDS:
                raise ValueError(f"{what} and {other} have the same port {port}")
        taken.setdefault(port, []).append((what, host))


def _protocols(config: Settings) -> None:
    protocols = config.listener_security_protocol_map
    for each in config.listeners:
        implied = "PLAINTEXT" if each.name in ("PLAINTEXT", config.controller_listener_names) else None
        protocol = protocols.get(each.name, implied)
        if protocol is None:
            raise ValueError(f"listener.security.protocol.map has no protocol for listener {each.name}")
        if protocol != "PLAINTEXT":
            raise ValueError(f"listener {each.name} wants {protocol}; only PLAINTEXT is supported so far")


def _advertised(config: Settings) -> None:
    voters = {voter.id for voter in config.controller_quorum_voters}
    names = {each.name for each in config.listeners}
    for each in config.advertised_listeners:
        if each.name not in names:
            raise ValueError(f"advertised.listeners has {each.name}, which is not among the listeners")
    for listener in config.listeners:
        if listener.name == config.controller_listener_names and config.node_id in voters:
            continue  # these are reached by the address that the list of voters has for them
        each = advertised_of(config, listener)
        if each.host in WILDCARDS:
            raise ValueError(
                f"advertised.listeners: {each.name}://{each.host}:{each.port} is an address that nobody can "
                "connect to; name a host"
            )
        if each.port == 0 and each is not listener:
            raise ValueError(f"advertised.listeners: {each.name} has port 0")


def _times(config: Settings) -> None:
    if config.broker_heartbeat_interval_ms >= config.broker_session_timeout_ms:
        raise ValueError("broker.heartbeat.interval.ms must be less than broker.session.timeout.ms")
    if config.replica_fetch_wait_max_ms > config.replica_lag_time_max_ms:
        raise ValueError("replica.fetch.wait.max.ms must not be more than replica.lag.time.max.ms")
    if config.group_min_session_timeout_ms > config.group_max_session_timeout_ms:
        raise ValueError("group.min.session.timeout.ms must not be more than group.max.session.timeout.ms")
    _consumer_groups(config)


def _consumer_groups(config: Settings) -> None:
    """KIP-848."""
    session, heartbeat = config.group_consumer_session_timeout_ms, config.group_consumer_heartbeat_interval_ms
    for what, value, least, most in (
        (
            "session.timeout.ms",
            session,
            config.group_consumer_min_session_timeout_ms,
            config.group_consumer_max_session_timeout_ms,
        ),
        (
            "heartbeat.interval.ms",
            heartbeat,
            config.group_consumer_min_heartbeat_interval_ms,
            config.group_consumer_max_heartbeat_interval_ms,
        ),
    ):
        if least > most:
            raise ValueError(f"group.consumer.min.{what} must not be more than group.consumer.max.{what}")
        if not least <= value <= most:
            raise ValueError(
                f"group.consumer.{what} must be between group.consumer.min.{what} ({least}) and "
                f"group.consumer.max.{what} ({most})"
            )
    if heartbeat >= session:
        raise ValueError("group.consumer.heartbeat.interval.ms must be less than group.consumer.session.timeout.ms")


def _limits(config: Settings) -> None:
    """A topic that does not say how it is to be may be made."""
    least, most = config.ottla_policy_min_replication_factor, config.ottla_policy_max_replication_factor
    if not least <= config.default_replication_factor <= most:
        raise ValueError(
            f"default.replication.factor must be between ottla.policy.min.replication.factor ({least}) and "
            f"ottla.policy.max.replication.factor ({most})"
        )
    if config.num_partitions > config.ottla_policy_max_partitions_per_topic:
        raise ValueError("num.partitions must not be more than ottla.policy.max.partitions.per.topic")


def _secret(config: Settings) -> None:
    secret = config.ottla_cluster_secret
    alone = [voter.id for voter in config.controller_quorum_voters] == [config.node_id]
    if secret is None:
        if not alone:
            raise ValueError("set ottla.cluster.secret.file or ottla.cluster.secret, the same on every node")
    elif len(secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"the cluster secret is shorter than {MIN_SECRET_BYTES} bytes")
