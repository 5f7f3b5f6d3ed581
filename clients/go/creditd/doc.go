// Package creditd takes the errors of a creditd server apart. The messages and the clients of the services are in
// the package creditdv1, below it in v1.
package creditd
