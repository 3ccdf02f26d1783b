"""lmms-eval behind one door: its official tasks, its chat interface, its judges."""
