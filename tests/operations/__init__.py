"""How the engine is run and watched, on a plant of real parts."""
