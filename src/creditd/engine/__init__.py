"""Joins the hot store and the ledger and owns the invariants; nothing above knows that there are two stores."""
