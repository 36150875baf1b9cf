// Package plugintest has what an agent stands between, as things that only
// remember: a kernel, and a Docker Engine that calls the agent's two protocols in
// the order in which the real one does and answers Docker's API beside them. For
// tests of package plugin and for the simulation of whole clusters.
package plugintest
