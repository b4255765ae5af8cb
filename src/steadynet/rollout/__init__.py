"""Rollouts as pure code: plan, state machine, router, judge."""
