"""Who there is: people, the groups they are in, and who answers for machines and agents."""
