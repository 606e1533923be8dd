"""Who is where: routes over tokens, one tree per VLAN, and what a relay carries (SPEC 6). Pure."""
