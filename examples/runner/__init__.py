"""What all examples share: a stack to run on, programs to run, what goes wrong, and the counting at the vendor.

The runner knows no orchestrator and needs no package. Each orchestrator's folder says how its jobs are started and what
happens to them; the jobs know nothing of either.
"""
