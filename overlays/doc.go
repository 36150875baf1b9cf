// Package overlays takes the overlay file of a DC/OS master as it is: each overlay in it becomes a network of Weft, with
// a Docker network and a CNI configuration on every host. What DC/OS' overlay modules answer over HTTP is answered too.
package overlays
