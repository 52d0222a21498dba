"""Two operators who want the opposite in the same second, and devices that do what they are told.

Each quarrel is about a rollout beside the great one, of a group of its own; one about the great one itself.
Some of the servers are killed meanwhile: then nobody knows what came of an order without an answer. What was
answered has to be so afterwards, whoever is asked, and each device has one order.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import fault_verdicts as verdicts
from fault_fleet import Cut, FaultDevice, Front
from fault_world import Replica, World
from server_world import Built

FOLLOWERS = 6
PATIENCE = 2000
"""So many rounds in which a device does not come to where it was sent, and it does not go on."""


class Follower(FaultDevice):
    """A device that does what it is told, release after release, and writes down what it was told."""

    def __init__(self, world: World, number: int, old: Built) -> None:
        super().__init__(world.keys, number, "good", old)
        self.world = world
        self.orders = [old.version]  # versions, one after the other, none twice in a row

    def ended(self, _new: Built) -> None:
        """No release is the last one."""

    async def call(self, front: Front, known: dict[bytes, Built]) -> None:
        """Ask once, take the next step, and write down what it was told.

        Raises:
            Cut, VerifyError: as `FaultDevice.check_in`.
        """
        await self.check_in(front, self.running)
        if self.wanted is None:
            return
        wanted = known[self.wanted]
        if self.orders[-1:] != [wanted.version]:
            self.orders.append(wanted.version)
        if self.running is wanted:
            self.state = "confirmed"
            if self.installed is not None:  # else the other one would start at the next reset
                self.installed = self.wanted
        elif self.installed != self.wanted:
            self.installed = self.wanted
        else:
            self.running, self.state = wanted, "trial"

    def runs(self, version: str) -> bool:
        """Whether it has proved this one, and nothing else waits for the next reset."""
        at_rest = self.installed in (None, self.running.manifest_digest)
        return (self.running.version, self.state, at_rest) == (version, "confirmed", True)


class Quarrels:
    """All of them, by name; each leaves followers that run what the last order says."""

    def __init__(self, world: World, first: int, old: Built, chance: random.Random) -> None:
        self.world, self.chance = world, chance
        self.followers = [Follower(world, first + number, old) for number in range(FOLLOWERS)]
        self.known = {old.manifest_digest: old}
        self.fronts = [server.front.beside() for server in world.servers]
        self.version = old.version
        self.main: int | None = None
        self.quarrels: dict[str, Callable[[], Awaitable[None]]] = {
            "abort_or_rollback": self.abort_or_rollback,
            "approve_or_abort": self.approve_or_abort,
            "two_rollouts": self.two_rollouts,
            "two_rollbacks": self.two_rollbacks,
        }

    async def begin(self) -> None:
        """Have them known, and in a group."""
        for _ in range(2):  # the second time with a report
            await self.round()
        names = [one.id for one in self.followers]
        await self.say("groups", {"name": "side"}, 201)
        await self.say("groups/side/devices", {"devices": names}, 200)

    # -- what all of them need -------------------------------------------------------------------------------

    def says(self, found: list[str]) -> None:
        for what in found:
            self.world.says(what)

    def told(self) -> dict[str, list[str]]:
        return {one.id: one.orders for one in self.followers}

    async def say(self, path: str, body: Any, *wanted: int) -> Any:
        """Give an order until it is answered as it has to be, and return the answer."""
        for _ in range(PATIENCE):
            found = await asyncio.to_thread(self.world.any().ask, "POST", path, body)
            if found and found[0] in wanted:
                return found[1]
            await asyncio.sleep(0.05)
        raise AssertionError(f"{path}: {found}")

    async def ask(self, path: str, server: Replica | None = None) -> Any:
        """Return what a server says, once it says it."""
        for _ in range(PATIENCE):
            found = await asyncio.to_thread((server or self.world.any()).ask, "GET", path)
            if found and found[0] == 200:
                return found[1]
            await asyncio.sleep(0.05)
        raise AssertionError(f"{path}: {found}")

    async def round(self) -> None:
        """Have each of them call once."""

        async def call(one: Follower) -> None:
            try:
                await one.call(self.chance.choice(self.fronts), self.known)
            except Cut:
                await asyncio.sleep(0.02)

        await asyncio.gather(*map(call, self.followers))

    async def rounds(self, done: Callable[[], bool], what: str) -> None:
        """Have them call until it is so."""
        for _ in range(PATIENCE):
            if done():
                return
            await self.round()
            await asyncio.sleep(0.05)
        shown = [(one.running.version, one.state, one.orders[-3:]) for one in self.followers]
        raise AssertionError(f"{what} did not come: {shown}")

    async def release(self) -> str:
        """Publish another one; what they were told before it is no more of interest."""
        built = self.world.release()
        self.known[built.manifest_digest] = built
        for one in self.followers:
            del one.orders[:-1]
        await asyncio.to_thread(self.world.publish_whole, built)
        return built.version

    async def rollout(self, version: str, **policy: Any) -> int:
        """Start a rollout in waves for the group."""
        terms = {"errors": "0%", "silence_s": 3600, "soak_s": 0}
        body = {"version": version, "group": "side", "policy": terms | policy}
        return int((await self.say("rollouts", body, 201, 202))["id"])

    async def at_once(self, *orders: tuple[str, Any]) -> list[int | None]:
        """Give two orders in the same moment to two servers, of which one may be killed over it."""
        servers = [self.world.servers[0], self.world.servers[-1]]
        self.chance.shuffle(servers)
        going = asyncio.create_task(asyncio.to_thread(self.world.at_once, servers, *orders))
        if self.chance.random() < 0.3:
            await asyncio.sleep(self.chance.random() / 20)
            await asyncio.to_thread(servers[0].kill)
            await going
            await asyncio.to_thread(servers[0].start_again)
        return await going

    async def settled(self, number: int) -> dict[str, Any]:
        """Return a rollout as each of the servers shows it, once nothing is left to be planned or closed."""
        for _ in range(PATIENCE):
            shown = [await self.ask(f"rollouts/{number}", server) for server in self.world.servers]
            if not any(one["state"] in ("planning", "cancelling") for one in shown):
                break
            await asyncio.sleep(0.05)
        if len({one["state"] for one in shown}) > 1:
            self.says([f"rollout {number} is told in two ways: {shown}"])
        return dict(shown[0])

    async def require(self, number: int, state: str) -> dict[str, Any]:
        shown = await self.settled(number)
        if shown["state"] != state:
            self.says([f"rollout {number} was to be {state}, and is {shown['state']}"])
        return shown

    async def states(self, number: int) -> list[str]:
        """Return how far each device of a rollout is."""
        listed = await self.ask(f"rollouts/{number}/devices?limit=100")
        return [row["state"] for row in listed["devices"]]

    async def of_scope(self, kind: str, scope: str, after: int) -> list[int]:
        """Return the orders of a kind and scope that are younger than one."""
        listed = (await self.ask("rollouts?limit=100"))["rollouts"]
        return sorted(
            row["id"] for row in listed if (row["kind"], row["scope"]) == (kind, scope) and row["id"] > after
        )

    async def newest(self) -> int:
        return int((await self.ask("rollouts?limit=1"))["rollouts"][0]["id"])

    def given(self, version: str) -> set[str]:
        return {one.id for one in self.followers if version in one.orders}

    async def all_run(self, version: str) -> None:
        """Have them call until each runs this one."""
        await self.rounds(lambda: all(one.runs(version) for one in self.followers), version)
        await self.round()  # and has said so

    # -- the quarrels ----------------------------------------------------------------------------------------

    async def abort_or_rollback(self) -> None:
        """One ends a rollout that some took, the other takes it back: it ends once, and all go back."""
        before, new = self.version, await self.release()
        number = await self.rollout(new, waves=["50%", "rest"], confirmed="100%")
        many = self.chance.randrange(1, FOLLOWERS + 1)
        await self.rounds(lambda: len(self.given(new)) >= many, f"{new} for {many}")
        path = f"rollouts/{number}"
        abort, back = await self.at_once((f"{path}/cancel", {}), (f"{path}/rollback", {}))
        may = {"cancel": (200, 202, 409), "rollback": (202,)}
        self.says(verdicts.answered({"cancel": abort, "rollback": back}, may))
        had, orders = self.given(new), await self.of_scope("rollback", f"rollout:{number}", number)
        self.says(verdicts.taken_back(back, orders))
        if not orders:
            orders = [int((await self.say(f"{path}/rollback", {}, 202))["id"])]
        await self.require(number, "cancelled")
        await self.settled(orders[0])
        await self.all_run(before)
        self.says(verdicts.ended(new, before, had, self.told()))
        await self.require(orders[0], "done")

    async def approve_or_abort(self) -> None:
        """One opens the next wave, the other ends the rollout: it ends, and nobody else is given it."""
        before, new = self.version, await self.release()
        policy = {"waves": ["50%", "rest"], "confirmed": "100%", "approval": True}
        number = await self.rollout(new, **policy)
        path = f"rollouts/{number}"
        for _ in range(PATIENCE):
            await self.round()
            if (await self.ask(path))["approval"] == 1:
                break
        had = self.given(new)
        approve, abort = await self.at_once((f"{path}/approve", {}), (f"{path}/cancel", {}))
        may = {"approve": (200, 409), "cancel": (200, 202)}
        self.says(verdicts.answered({"approve": approve, "cancel": abort}, may))
        if abort not in (200, 202):
            await self.say(f"{path}/cancel", {}, 200, 202, 409)
        shown = await self.require(number, "cancelled")
        self.says(verdicts.opened(approve, shown["waves"][0]["phase"]))
        for _ in range(4):
            await self.round()
        self.says(verdicts.ended(new, before, had, self.told()))
        self.version = new  # all to one and the same again; whoever has it is left out
        await self.say("rollouts", {"version": new, "group": "side"}, 201, 202)
        await self.all_run(new)

    async def two_rollouts(self) -> None:
        """Two releases for one group: the younger order has the last word on each device."""
        releases = [await self.release() for _ in range(2)]
        after = await self.newest()
        bodies = [{"version": one, "group": "side"} for one in releases]
        answers = await self.at_once(*(("rollouts", body) for body in bodies))
        self.says(
            verdicts.answered(dict(zip(releases, answers, strict=True)), dict.fromkeys(releases, (201, 202)))
        )
        numbers = await self.of_scope("update", "group:side", after)
        if sum(status in (201, 202) for status in answers) > len(numbers):
            self.says([f"two rollouts were answered {answers}, and {numbers} are there"])
        if not numbers:
            numbers = [int((await self.say("rollouts", bodies[0], 201, 202))["id"])]
        shown = [await self.settled(number) for number in numbers]
        self.version = shown[-1]["versions"][0]
        await self.all_run(self.version)
        states = {number: await self.states(number) for number in numbers}
        self.says(verdicts.of_two(states, FOLLOWERS, self.told()))

    async def two_rollbacks(self) -> None:
        """Two take a group back: it goes back once."""
        before, new = self.version, await self.release()
        await self.say("rollouts", {"version": new, "group": "side"}, 201, 202)
        await self.all_run(new)
        after = await self.newest()
        answers = await self.at_once(*[("rollbacks", {"group": "side"})] * 2)
        may = {"one": (201, 202, 409), "other": (201, 202, 409)}
        self.says(verdicts.answered({"one": answers[0], "other": answers[1]}, may))
        orders = await self.of_scope("rollback", "group:side", after)
        if not orders:
            await self.say("rollbacks", {"group": "side"}, 201, 202)
        await self.all_run(before)
        self.says(verdicts.back_once(answers, orders, new, before, self.told()))
