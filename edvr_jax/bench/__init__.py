"""What ``edvr bench`` measures."""
