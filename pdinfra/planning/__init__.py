"""Planning: inventory to plan, plan and facts to changes. Pure, typed, deterministic, no I/O."""
