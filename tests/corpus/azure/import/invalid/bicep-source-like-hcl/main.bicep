module rules "modules/rules.bicep" = {
  name: "rules"
}
resource p "Microsoft.Network/firewallPolicies@2023-11-01" = {
