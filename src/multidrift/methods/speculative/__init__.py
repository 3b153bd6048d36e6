"""Speculative sampling: a cheap drift drafts many steps, one call of the top level verifies them all."""
