# Written by carapace-setup. It puts the shims first, for convenience: the
# order of PATH protects nothing, the other account does.
case ":${PATH}:" in
*':/usr/local/carapace/bin:'*) ;;
*)
	PATH='/usr/local/carapace/bin'"${PATH:+:${PATH}}"
	export PATH
	;;
esac
