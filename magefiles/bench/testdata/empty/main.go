// Empty is the least that a Go program can do: what every start is compared to.
package main

func main() {}
