"""How agents are run here, each a process with a memory of its own, and what happens to both forms of them."""

from __future__ import annotations

from decimal import Decimal

from examples.runner.case import PERIOD, PRICES_USD
from examples.runner.jobs import JobCase, Orchestrator, hazards, killed_and_run_again, write_fails_once
from examples.runner.program import Ended, Program

AGENT = Orchestrator("agent")


class AgentCase(JobCase):
    """One agent for all customers, or one for each. Each agent has a vault key of its own; all of them draw from one
    budget with a brake."""

    def _keybrake(self) -> dict[str, str]:
        total = sum(map(Decimal, PRICES_USD.values()))
        self.create_budget(lifetime_usd_cap=str(total))
        return {"KEYBRAKE_URL": self.trial.stack.url}

    def start_agent(self, letters: str) -> Program:
        """Starts, or starts again, the agent for these customers."""
        keys = {"VAULT_KEY": self.issue(budget=self.budget)} if self.through_keybrake else {}
        return self.start(
            "python",
            str(self.orchestrator.jobs / f"billing_{self.form}.py"),
            PERIOD,
            *(self.customers[letter] for letter in letters),
            AGENT_MEMORY=str(self.folder / f"memory-{letters}"),
            AGENT_RUN_ID=self.run_id(letters),
            **keys,
        )

    def start_job(self) -> Program:
        """One agent for all."""
        return self.start_agent("".join(PRICES_USD))

    def run_id(self, letters: str) -> str:
        """What the agent calls itself in the audit."""
        return f"{self.name}-{letters}"

    def run_all(self, ends: Ended) -> None:
        """One agent for each customer, all at once."""
        for agent in [self.start_agent(letter) for letter in PRICES_USD]:
            agent.wait(ends)


def agents_share_a_budget(case: JobCase) -> None:
    """Every price is a hundred times too high, and a write fails. With Keybrake the first refusal stops all agents."""
    assert isinstance(case, AgentCase)
    case.fail_next_write("b")
    case.price_list_in_cents("abc")
    if not case.through_keybrake:
        case.run_all(Ended.WELL)
        return
    case.run_all(Ended.FAILED)
    case.expect(not case.charges(), "nothing is charged while the prices are wrong")
    refused = [entry["reason"] for entry in reversed(case.entries())]
    others = ["budget_tripped"] * (len(PRICES_USD) - 1)
    case.expect(refused == ["spend_cap_exceeded", *others], f"the first refusal stops all others, not {refused}")
    case.price_list_mended()
    case.open_tripped_budget()
    case.run_all(Ended.WELL)
    told = {entry["run_id"] for entry in case.entries()}
    case.expect(told == {case.run_id(letter) for letter in PRICES_USD}, f"the audit names each agent, not {told}")


HAZARDS = hazards(
    AGENT,
    ("retry", "tool call tried again", write_fails_once),
    ("fan_out", "parallel agents, one budget", agents_share_a_budget),
    ("replay", "killed while charging, restarted", killed_and_run_again),
    cases=AgentCase,
)
