"""The guided tour: a target of its own, one ticket's whole life, and the evidence it leaves."""
