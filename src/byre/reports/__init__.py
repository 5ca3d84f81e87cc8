"""Reports: findings and facts written for people and for other programs. Reads no image."""
