// Package plugintest has fakes in memory of the two things that an agent connects: a kernel, and a Docker
// Engine, which calls the agent's two protocols in the order in which the real one does, and answers
// Docker's API. They are for the tests of package plugin and for the simulation of whole clusters.
package plugintest
