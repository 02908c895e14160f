//! Situations that chaos meets too seldom.
