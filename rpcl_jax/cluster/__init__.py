"""Ray, the engine for what outgrows one machine."""
