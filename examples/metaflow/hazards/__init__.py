"""Runs the flows beside this folder into every hazard, without Keybrake and with it, and counts at the vendor.

`make example-metaflow` runs it: a stack of its own (sandbox vendor, ledger, Envoy with the filter) on free ports, real
Metaflow, Stripe's official SDK. What happens to a flow stands in `scenarios`, what is counted in
`examples.runner.referee`; the flows know nothing of either.
"""
