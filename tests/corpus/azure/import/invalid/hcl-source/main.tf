resource "azurerm_firewall_policy_rule_collection_group" "x" {
  name = "x"
}
