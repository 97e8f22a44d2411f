@description('x')
param location string
resource p 'Microsoft.Network/firewallPolicies@2023-11-01' = {
  name: 'p'
}
