/**
 * What makes calls of creditd comfortable in Java; the calls themselves are the gRPC stubs of {@code io.creditd.v1}, such as
 * {@link io.creditd.v1.EntitlementsGrpc}.
 */
package io.creditd.client;
