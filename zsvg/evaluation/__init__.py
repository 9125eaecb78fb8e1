"""How good answers and labels are: metrics, protocols, trivial answers, audits and probes."""
