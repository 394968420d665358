"""The build orchestrator for bare-metal Go."""
