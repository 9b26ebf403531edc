"""The lab: systemd-nspawn hosts with real minions, an artifact mirror, and faults."""
