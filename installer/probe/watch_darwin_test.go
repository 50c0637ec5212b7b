package probe

import "io"

// watch has nothing to look into here: there is no /proc.
func watch(io.Writer) int { return 1 }
