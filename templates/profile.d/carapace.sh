# Written by carapace-setup. It puts the shims first, for convenience: the
# order of PATH protects nothing, the other account does.
case ":${PATH}:" in
*':{{.Prefix}}/bin:'*) ;;
*)
	PATH='{{.Prefix}}/bin'"${PATH:+:${PATH}}"
	export PATH
	;;
esac
