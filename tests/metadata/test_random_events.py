"""Anything may happen to the brokers, in any order: what must hold does hold after every event."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from kio.schema.errors import ErrorCode

from ottla.controller.metadata import (
    FEATURES,
    Limits,
    MetadataImage,
    PartitionImage,
    Policy,
    apply,
    decode_records,
    decode_snapshot,
    encode_snapshot,
    rebalance,
    repair,
)
from ottla.controller.rpc import (
    AllocateProducerIds,
    ConfigOp,
    ConfigResourceOps,
    CreatePartitions,
    CreateTopics,
    DeleteTopics,
    ElectLeaders,
    FeatureUpdate,
    IncrementalAlterConfigs,
    MorePartitions,
    NewTopic,
    TopicRef,
    UnregisterBroker,
    UpdateFeatures,
)
from tests.metadata.cluster import CLUSTER_ID, Cluster, check_invariants, registration

BROKERS = st.integers(1, 5)
TOPICS = st.sampled_from(["a", "b", "a.x", "a_x"])
PARTITIONS = st.integers(0, 2)


class RandomEvents(RuleBasedStateMachine):
    """Drives the decisions and keeps, apart from them, what was true before each event."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster(Policy(limits=Limits(partitions_per_request=8)))
        self.incarnations = 0
        self.blocks: list[int] = []
        self.before = self.cluster.image

    @initialize()
    def begin(self) -> None:
        """Most events need something to happen to."""
        self.cluster.up(1, 2, 3, 4)
        self.create("a", 3, 3)
        self.create("b", 2, 2)
        self.before = self.cluster.image

    # Brokers

    @rule(broker=BROKERS, live=st.booleans(), rack=st.sampled_from(["r", "s", None]))
    def register(self, broker: int, live: bool, rack: str | None) -> None:
        self.incarnations += 1
        incarnation = f"life {self.incarnations}"
        before = self.cluster.image
        self.cluster.ask(registration(broker, incarnation, rack=rack), session_live=live)
        if live and broker in before.brokers:
            assert self.cluster.image is before
            return
        # KIP-966: back from an unclean stop, it counts as in sync only where nobody else does.
        assert self.cluster.image.brokers[broker].fenced
        assert all(state.isr == (broker,) for _, _, state in self.cluster.image.all_partitions() if broker in state.isr)

    @rule(broker=BROKERS, behind=st.integers(0, 3))
    def beat(self, broker: int, behind: int) -> None:
        if broker in self.cluster.image.brokers:
            self.cluster.beat(broker, applied=self.cluster.image.offset - behind)

    @rule(broker=BROKERS)
    def leave(self, broker: int) -> None:
        if broker in self.cluster.image.brokers:
            assert self.cluster.beat(broker, want_shutdown=True).should_shutdown
            assert all(state.leader != broker for _, _, state in self.cluster.image.all_partitions())

    @rule(broker=BROKERS)
    def beat_when_caught_up(self, broker: int) -> None:
        self.beat(broker, 0)

    @rule(brokers=st.sets(BROKERS, min_size=1))
    def fence(self, brokers: set[int]) -> None:
        self.cluster.fence(*brokers)

    @rule(broker=BROKERS)
    def take_ids(self, broker: int) -> None:
        epoch = self.cluster.epoch(broker)
        answer = self.cluster.ask(AllocateProducerIds(node_id=broker, broker_epoch=epoch))
        if not answer.error:
            self.blocks.append(answer.first)
            assert len(set(self.blocks)) == len(self.blocks)

    # Topics

    @rule(name=TOPICS, partitions=st.integers(1, 3), factor=st.integers(1, 4))
    def create(self, name: str, partitions: int, factor: int) -> None:
        topic = NewTopic(name=name, partitions=partitions, replication_factor=factor)
        self.cluster.ask(CreateTopics(topics=(topic,)))

    @rule(name=TOPICS)
    def delete(self, name: str) -> None:
        self.cluster.ask(DeleteTopics(topics=(TopicRef(name=name), TopicRef(name=name))))

    @rule(name=TOPICS, count=st.integers(1, 5))
    def grow(self, name: str, count: int) -> None:
        self.cluster.ask(CreatePartitions(topics=(MorePartitions(name=name, count=count),)))

    @rule(feature=st.sampled_from(sorted(FEATURES)), level=st.integers(-1, 3), kind=st.integers(0, 4))
    def set_level(self, feature: str, level: int, kind: int) -> None:
        before = self.cluster.image
        update = FeatureUpdate(feature=feature, level=level, upgrade_type=kind)
        answer = self.cluster.ask(UpdateFeatures(updates=(update,)))
        assert self.cluster.image.feature(feature) == (before.feature(feature) if answer.error else level)

    @rule(name=TOPICS, value=st.sampled_from(["true", "false"]))
    def set_unclean(self, name: str, value: str) -> None:
        op = ConfigOp(key="unclean.leader.election.enable", op="set", value=value)
        resource = ConfigResourceOps(kind="topic", name=name, ops=(op,))
        self.cluster.ask(IncrementalAlterConfigs(resources=(resource,)))

    # Partitions

    @rule(
        name=TOPICS,
        partition=PARTITIONS,
        members=st.lists(BROKERS, max_size=4),
        asker=st.one_of(st.none(), BROKERS),
        older=st.integers(0, 1),
    )
    def alter(self, name: str, partition: int, members: list[int], asker: int | None, older: int) -> None:
        state = self.cluster.image.partition(name, partition)
        if state is None:
            return
        wish = self.cluster.wish(
            name, *members, partition=partition, partition_epoch=max(state.partition_epoch - older, 0)
        )
        self.cluster.alter(state.leader if asker is None else asker, wish)

    @rule(name=TOPICS, partition=PARTITIONS, members=st.sets(BROKERS))
    def follow_up(self, name: str, partition: int, members: set[int]) -> None:
        """A leader takes in, or drops, what it may: the usual case, which chance alone seldom finds."""
        state = self.cluster.image.partition(name, partition)
        if state is not None and state.leader != -1:
            allowed = [
                r for r in state.replicas if r == state.leader or (r in members and self.cluster.image.eligible(r))
            ]
            wish = self.cluster.wish(name, *allowed, partition=partition)
            answer = self.cluster.alter(state.leader, wish, wish)
            assert not answer.partitions[0].error

    @rule(name=TOPICS, partition=PARTITIONS, wanted=st.none() | st.lists(BROKERS, max_size=4), same=st.booleans())
    def reassign(self, name: str, partition: int, wanted: list[int] | None, same: bool) -> None:
        before = self.cluster.image.partition(name, partition)
        error = self.cluster.reassign(name, wanted, partition, same_factor=same)
        now = self.cluster.image.partition(name, partition)
        if error is not ErrorCode.none:
            assert now is before
            return
        assert before is not None and now is not None
        if wanted is None:
            assert (now.replicas, now.reassigning) == (before.original, False)
        else:
            assert now.target == tuple(wanted)
            assert set(now.original) == set(before.original) or not now.reassigning
            assert set(now.isr) >= set(before.isr) or not now.reassigning, "nobody leaves the ISR before it is complete"

    @rule(name=TOPICS, partition=PARTITIONS)
    def catch_up(self, name: str, partition: int) -> None:
        """All that are up get into the ISR: a reassignment whose replicas are all up is complete then."""
        state = self.cluster.image.partition(name, partition)
        if state is not None and state.leader != -1:
            self.follow_up(name, partition, set(state.replicas))
            now = self.cluster.image.partition(name, partition)
            assert now is not None
            assert now.reassigning is (state.reassigning and not all(map(self.cluster.image.eligible, state.target)))

    @rule(gone=st.sets(BROKERS, max_size=2), limit=st.integers(0, 3))
    def repair(self, gone: set[int], limit: int) -> None:
        before = self.cluster.image
        self.cluster.commit(repair(before, self.cluster.policy, gone, limit=limit))
        now = self.cluster.image
        was_under_way = sum(state.automatic for _, _, state in before.all_partitions())
        assert sum(state.automatic for _, _, state in now.all_partitions()) <= max(limit, was_under_way)
        for topic, partition, state in now.all_partitions():
            was = before.topics[topic.name].partitions[partition]
            assert set(state.isr) >= set(was.isr) - set(was.adding), "nobody leaves the ISR for a repair"
            assert len(state.target) == len(was.target if state.automatic else state.target)
            assert state is was or state.automatic or set(state.replicas) == set(was.original), "begun, or called off"
        assert repair(now, self.cluster.policy, gone, limit=limit) == [], "once is enough"

    @rule(broker=BROKERS)
    def unregister(self, broker: int) -> None:
        known = broker in self.cluster.image.brokers
        assert bool(self.cluster.ask(UnregisterBroker(broker_id=broker)).error) is not known
        assert broker not in self.cluster.image.brokers

    @rule(unclean=st.booleans())
    def elect(self, unclean: bool) -> None:
        self.cluster.ask(ElectLeaders(election="unclean" if unclean else "preferred"))

    @rule()
    def rebalance(self) -> None:
        self.cluster.commit(rebalance(self.cluster.image))
        assert rebalance(self.cluster.image) == []

    # What must hold

    @invariant()
    def holds(self) -> None:
        image = self.cluster.image
        check_invariants(image)
        for topic, partition, now in image.all_partitions():
            then = self.before.partition(topic.name, partition)
            if then is not None and self.before.topics[topic.name].id == topic.id:
                self.moves_forward(then, now)
        for broker, registered in image.brokers.items():
            assert registered.epoch <= image.offset
            assert broker not in self.before.brokers or registered.epoch >= self.before.brokers[broker].epoch
        self.before = image

    @staticmethod
    def moves_forward(then: PartitionImage, now: PartitionImage) -> None:
        assert now.leader_epoch >= then.leader_epoch
        assert now.partition_epoch >= then.partition_epoch
        assert now.leader == then.leader or now.leader_epoch > then.leader_epoch
        assert now == then or now.partition_epoch == then.partition_epoch + 1
        assert set(then.replicas) <= set(now.replicas) or now.leader_epoch > then.leader_epoch
        if then.reassigning and set(then.replicas) != set(now.replicas) and not now.reassigning:
            kept = set(now.replicas)
            assert kept <= set(now.isr) or kept == set(then.original), "complete, or given up"

    @invariant()
    def replays(self) -> None:
        """The log from the beginning, or a snapshot, gives the same image."""
        image = decode_snapshot(encode_snapshot(self.cluster.image), CLUSTER_ID)
        assert image == self.cluster.image

    def teardown(self) -> None:
        image = MetadataImage(cluster_id=CLUSTER_ID)
        for offset, entry in enumerate(self.cluster.entries, 1):
            image, _ = apply(image, decode_records(entry), offset)
        assert image == self.cluster.image


TestRandomEvents = RandomEvents.TestCase
TestRandomEvents.settings = settings(stateful_step_count=40)
