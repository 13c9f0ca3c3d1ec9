"""What an administrator does with groups, on a whole cluster."""

import pytest

from ottla.client import GroupIdNotFoundError, TopicPartition, UnknownMemberIdError
from ottla.simulation import SimulatedCluster, run

SETTINGS = {"offsets.topic.num.partitions": "2", "group.initial.rebalance.delay.ms": "100"}
TP = TopicPartition("t", 0)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_members_are_removed_by_instance_or_all_at_once(protocol):
    """KIP-345, KIP-571, KIP-800: a static member that is gone need not be waited for."""

    async def scenario():
        async with SimulatedCluster(settings=SETTINGS) as cluster, cluster.admin() as admin:
            await cluster.create_topic("t", partitions=2)

            async def members():
                found = (await admin.describe_consumer_groups(["g"]))["g"].members
                return sorted(member.instance_id or "dynamic" for member in found)

            options = {"group_id": "g", "group_protocol": protocol}
            async with (
                cluster.consumer("t", **options, group_instance_id="a") as one,
                cluster.consumer("t", **options, group_instance_id="b") as other,
            ):
                await cluster.until(lambda: one.assignment() and other.assignment(), "each has a partition")
            # Static members do not leave when they close.
            assert await members() == ["a", "b"]
            await admin.remove_members_from_consumer_group("g", ["a"], reason="gone")
            assert await members() == ["b"]
            with pytest.raises(UnknownMemberIdError, match="'a'"):
                await admin.remove_members_from_consumer_group("g", ["a"])
            await admin.remove_members_from_consumer_group("g")
            assert await members() == []
            async with cluster.consumer("t", **options) as consumer:
                await cluster.until(consumer.assignment, "it has a partition")
                (before,) = (await admin.describe_consumer_groups(["g"]))["g"].members
                await admin.remove_members_from_consumer_group("g")
                assert before not in (await admin.describe_consumer_groups(["g"]))["g"].members
                await cluster.advance(10)
                assert await members() == ["dynamic"], "who is alive joins again"
            with pytest.raises(GroupIdNotFoundError):
                await admin.remove_members_from_consumer_group("never heard of")

    run(scenario, 1)


def test_groups_are_listed_and_described_by_their_protocol():
    """KIP-848, KIP-1043."""

    async def scenario():
        async with SimulatedCluster(settings=SETTINGS) as cluster, cluster.admin() as admin:
            await cluster.create_topic("t", partitions=2)
            await admin.alter_consumer_group_offsets("offsets", {TP: 0})
            async with (
                cluster.consumer("t", group_id="old", group_protocol="classic") as old,
                cluster.consumer("t", group_id="new", group_protocol="consumer") as new,
            ):
                await cluster.until(lambda: old.assignment() and new.assignment(), "both have partitions")
                kinds = {group.group_id: (group.type, group.protocol_type) for group in await admin.list_groups()}
                assert kinds == {
                    "new": ("consumer", "consumer"),
                    "offsets": ("classic", ""),
                    "old": ("classic", "consumer"),
                }
                assert await admin.list_consumer_groups() == await admin.list_groups()
                (only,) = await admin.list_groups(protocol_types=[""])
                assert only.group_id == "offsets"
                assert await admin.list_groups(types=["consumer"]) == await admin.list_consumer_groups(
                    types=["consumer"]
                )
                described = await admin.describe_classic_groups(["old", "offsets"])
                assert [group.type for group in described.values()] == ["classic", "classic"]
                assert len(described["old"].members) == 1
                with pytest.raises(GroupIdNotFoundError):
                    await admin.describe_classic_groups(["new"])

    run(scenario, 1)
