// Command carapace-shim is all the shims in one: it stands in for the tool by
// whose name it is called.
package main

import (
	"os"

	"github.com/carapace-gateway/carapace/shims"
)

func main() { os.Exit(shims.Main(os.Args)) }
