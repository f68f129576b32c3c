//! Tests that look at the workspace as a whole. Behaviour of one package is tested in that package.

mod layers;
mod sim;
