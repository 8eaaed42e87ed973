"""An agent that bills, as a graph of LangGraph. `model` stands for the model; `ToolNode` executes what it asks for."""

import os
import sys
import uuid

import books
import keybrake
from langchain_core.messages import AIMessage, ToolCall
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import RetryPolicy


@tool
def bill(customer: str, period: str, config: RunnableConfig) -> str:
    """Charges the customer for the period."""
    cents = int(books.price_usd(customer) * 100)
    charge = keybrake.stripe_client().v1.charges.create(
        {"amount": cents, "currency": "usd", "customer": customer, "description": period},
        {
            "idempotency_key": keybrake.idempotency_key(customer, cents, period),
            "headers": {"x-agent-run-id": config["configurable"]["thread_id"]},
        },
    )
    books.record(customer, period, charge.id)
    return charge.id


def model(state):
    """Asks for the tool once for each customer, all in one message; says that it is done when they are billed."""
    told, *then = state["messages"]
    if then:
        return {"messages": AIMessage("Everybody is billed.")}
    calls = [
        ToolCall(name="bill", args={"customer": customer, "period": told.content}, id=f"call_{uuid.uuid4()}")
        for customer in books.customers()
    ]
    return {"messages": AIMessage("", tool_calls=calls)}


def agent(checkpointer, attempts):
    graph = StateGraph(MessagesState)
    graph.add_node("model", model)
    graph.add_node("tools", ToolNode([bill]), retry_policy=RetryPolicy(max_attempts=attempts))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile(checkpointer)


if __name__ == "__main__":
    hazard, period = sys.argv[1:]
    thread = {"configurable": {"thread_id": f"billing-{period}"}}
    with SqliteSaver.from_conn_string(os.environ["AGENT_CHECKPOINTS"]) as checkpointer:
        billing = agent(checkpointer, attempts=3 if hazard == "retry" else 1)
        begun = billing.get_state(thread).next
        billing.invoke(None if begun else {"messages": period}, thread, durability="sync")
