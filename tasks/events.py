"""Events: giving them positions and feeding their consumers."""
